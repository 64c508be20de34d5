//! Where SNS has its certificates and takes confirmations: nothing else is ever asked for a message's sake.

use sentinel_http::Url;

/// The address of a certificate, if it is one of SNS.
pub(crate) fn certificate(text: &str) -> Option<Url> {
    let url = of_sns(text)?;
    let name = url.path().strip_prefix("/SimpleNotificationService-")?.strip_suffix(".pem")?;
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_name && url.query().is_none()).then_some(url)
}

/// The address at which a subscription to `topic` is confirmed, if it is one of SNS.
pub(crate) fn subscription(text: &str, topic: &str) -> Option<Url> {
    let url = of_sns(text)?;
    let says = |name: &str, value: &str| {
        let mut all = url.query_pairs().filter(|(key, _)| key == name);
        all.next().is_some_and(|(_, said)| said == value) && all.next().is_none()
    };
    let confirms = url.path() == "/" && says("Action", "ConfirmSubscription") && says("TopicArn", topic);
    confirms.then_some(url)
}

/// An https address of SNS without a user, a port or a fragment.
fn of_sns(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https")?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.port().is_none()
        && url.fragment().is_none();
    let host = url.host_str()?.strip_prefix("sns.")?;
    let region = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    (plain && is_region(region)).then_some(url)
}

/// Whether a text has the form of AWS's regions: `eu-west-1`, `us-gov-east-1`, `eusc-de-east-1`.
fn is_region(text: &str) -> bool {
    let mut words: Vec<&str> = text.split('-').collect();
    let number = words.pop().unwrap_or_default();
    let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let is_word =
        |word: &&str| (2..=12).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase());
    is_number && (2..=4).contains(&words.len()) && words.iter().all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_taken_from_sns_alone() {
        let file = "SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
        for host in [
            "sns.eu-west-1.amazonaws.com",
            "sns.us-gov-east-1.amazonaws.com",
            "sns.cn-north-1.amazonaws.com.cn",
            "sns.eusc-de-east-1.amazonaws.com",
            "SNS.ap-southeast-7.amazonaws.com:443",
        ] {
            assert!(certificate(&format!("https://{host}/{file}")).is_some(), "{host}");
        }
        for host in [
            "sns.amazonaws.com",
            "sns.evil.amazonaws.com",
            "sns.eu-west-1.evil.com",
            "sns.eu-west-1.amazonaws.com.evil.com",
            "sns.eu-west-1.amazonaws.com.cn.evil",
            "evil.sns.eu-west-1.amazonaws.com",
            "sns.s3.eu-west-1.amazonaws.com",
            "sns.eu-west-1.amazonaws.com.",
            "sns.eu-west-111.amazonaws.com",
            "sns.-eu-west-1.amazonaws.com",
            "sns.eu-west-1.amazonaws.com:8443",
            "u:p@sns.eu-west-1.amazonaws.com",
            "sns.eu-west-1.amazonaws.com@evil.com",
            "127.0.0.1",
        ] {
            assert_eq!(certificate(&format!("https://{host}/{file}")), None, "{host}");
        }
        for path in [
            "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-.pem",
            "https://sns.eu-west-1.amazonaws.com/x/SimpleNotificationService-0a.pem",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a/../b.pem",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-%2e.pem",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem?x=1",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem#x",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.crt",
            "SimpleNotificationService-0a.pem",
            "",
        ] {
            assert_eq!(certificate(path), None, "{path}");
        }
    }

    #[test]
    fn a_subscription_is_confirmed_with_sns_and_for_this_topic_alone() {
        let topic = "arn:aws:sns:eu-west-1:000000000000:alerts";
        let good = format!(
            "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={topic}&Token=2336"
        );
        assert!(subscription(&good, topic).is_some());
        for bad in [
            good.replace("eu-west-1.amazonaws", "eu-west-1.evil"),
            good.replace("https", "http"),
            good.replace("ConfirmSubscription", "DeleteTopic"),
            good.replace("alerts", "others"),
            format!("{good}&TopicArn={topic}"),
            good.replace("com/", "com/x"),
        ] {
            assert_eq!(subscription(&bad, topic), None, "{bad}");
        }
    }
}
