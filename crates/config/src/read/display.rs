//! How incidents are shown.

use jiff::tz::TimeZone;

use super::general::{hosts, section};
use crate::reader::{Field, Keys, Reader, shown};
use crate::settings::Display;

pub(super) const DISPLAY: Keys = &[("timezone", &[]), ("link-hosts", &[]), ("console-url", &[])];

pub(super) fn display(r: &mut Reader<'_>, field: Option<Field<'_>>) -> Display {
    let s = section(r, field, "display", DISPLAY);
    let zone = s.get("timezone").and_then(|f| timezone(r, &f)).unwrap_or(TimeZone::UTC);
    let console = s
        .get("console-url")
        .and_then(|f| r.url(&f, "write the address alone: whoever opens a page logs in there"));
    Display { zone, link_hosts: hosts(r, &s, "link-hosts"), console }
}

/// A zone of the IANA database, which is part of this program.
fn timezone(r: &mut Reader<'_>, field: &Field<'_>) -> Option<TimeZone> {
    let name = r.text(field)?;
    let zone = TimeZone::get(name.trim()).ok();
    if zone.is_none() {
        let message = format!("is {}, which is no zone of the IANA database", shown(field, &name));
        r.error(field, message, "write a name such as Europe/Berlin, America/New_York or UTC");
    }
    zone
}
