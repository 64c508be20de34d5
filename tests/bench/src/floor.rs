//! The floor: the round trips that an alert cannot do without, one after the other, by a client that does nothing else.
//! A thread, a socket that is kept open, requests written ahead. Each line of standard input,
//! `new N` (create, send) or `duplicate N` (a create that is refused), is answered with N times in milliseconds.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;

type Failure = Box<dyn Error>;

/// Answers the lines, with the stub at `address`.
///
/// # Errors
/// A socket or a pipe, a line or an answer that was not expected.
pub fn run(address: &str) -> Result<(), Failure> {
    // A connection each, as an SDK's clients have.
    let mut table = Client::connect(address)?;
    let mut queue = Client::connect(address)?;
    let mut made = 0_u64;
    table.ask(&create(0), 200)?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (what, times) = line.split_once(' ').ok_or("a line is `new N` or `duplicate N`")?;
        let mut took = Vec::new();
        for _ in 0..times.parse()? {
            made += 1;
            let (first, then) = if what == "new" { (create(made), Some(send())) } else { (create(0), None) };
            let began = Instant::now();
            table.ask(&first, if then.is_some() { 200 } else { 400 })?;
            if let Some(then) = then {
                queue.ask(&then, 200)?;
            }
            took.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{}", json!(took))?;
        out.flush()?;
    }
    Ok(())
}

struct Client {
    socket: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: &str) -> Result<Self, Failure> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket: BufReader::new(socket) })
    }

    /// Writes a request, and reads its answer to the end.
    fn ask(&mut self, request: &[u8], wanted: u16) -> Result<(), Failure> {
        self.socket.get_mut().write_all(request)?;
        let mut line = String::new();
        self.socket.read_line(&mut line)?;
        if !line.contains(&format!(" {wanted} ")) {
            return Err(format!("{line:?} in place of {wanted}").into());
        }
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            self.socket.read_line(&mut line)?;
            if let Some(("content-length", value)) = line.to_ascii_lowercase().split_once(':') {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body)?;
        Ok(())
    }
}

fn create(n: u64) -> Vec<u8> {
    let mut item: serde_json::Map<_, _> =
        crate::attributes().map(|(name, value)| (name, json!({"S": value}))).collect();
    item.insert("pk".into(), json!({"S": format!("FLOOR#{n}")}));
    item.insert("sk".into(), json!({"S": "HEAD"}));
    let body = json!({
        "TableName": "bench", "Item": item, "ConditionExpression": "attribute_not_exists(pk)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD"
    });
    request("DynamoDB_20120810.PutItem", &body.to_string())
}

fn send() -> Vec<u8> {
    let body = json!({"QueueUrl": "http://127.0.0.1/bench", "MessageBody": r#"{"incident":"i","gen":1}"#});
    request("AmazonSQS.SendMessage", &body.to_string())
}

fn request(target: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-amz-target: {target}\r\ncontent-type: application/x-amz-json-1.0\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
