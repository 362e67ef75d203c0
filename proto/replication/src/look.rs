//! What a server says of itself, asked over a connection on which nothing was said yet.

use std::time::Duration;

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::{
    Credentials, Info, Quoted, ReplicationError, command,
    line::Lines,
    replica::{Step, failure},
};

/// INFO has some kilobytes; a peer that announces more than this is no server.
const MAX_INFO: usize = 4 << 20;
const READ: usize = 16 * 1024;

/// `INFO`, after `AUTH` if there are credentials. Each answer may take `limit`.
///
/// # Cancel safety
/// Dropping the future leaves the connection in the middle of an answer: drop it as well.
pub async fn ask_info<S>(
    socket: &mut S,
    credentials: Option<&Credentials>,
    limit: Duration,
) -> Result<Info, ReplicationError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let user = credentials.and_then(|credentials| credentials.user.as_deref()).unwrap_or("default");
    let mut answers = Answers { socket, input: BytesMut::new(), lines: Lines::default() };
    let within = |step: Step| ReplicationError::Silent { awaiting: step.awaiting(), limit };
    if let Some(credentials) = credentials {
        let command = credentials.auth();
        let asked = answers.ask(Step::Auth, command.expose());
        let line = timeout(limit, asked).await.map_err(|_| within(Step::Auth))??;
        if !line.starts_with(b"+") {
            return Err(failure(user, Step::Auth, &line));
        }
    }
    let info = async {
        let line = answers.ask(Step::Info, &command::encode(&["INFO"])).await?;
        let Some(length) = bulk_length(&line) else { return Err(failure(user, Step::Info, &line)) };
        if length > MAX_INFO {
            return Err(ReplicationError::UnexpectedReply { command: "INFO", reply: Quoted::new(&line) });
        }
        answers.bytes(length).await
    };
    let text = timeout(limit, info).await.map_err(|_| within(Step::Info))??;
    Ok(Info::parse(&String::from_utf8_lossy(&text)))
}

/// `$` and a number.
fn bulk_length(line: &[u8]) -> Option<usize> {
    std::str::from_utf8(line.strip_prefix(b"$")?).ok()?.parse().ok()
}

struct Answers<'a, S> {
    socket: &'a mut S,
    input: BytesMut,
    lines: Lines,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Answers<'_, S> {
    /// Sends a command; gives the first line of its answer.
    async fn ask(&mut self, step: Step, command: &[u8]) -> Result<bytes::Bytes, ReplicationError> {
        let awaiting = step.awaiting();
        self.socket.write_all(command).await.map_err(ReplicationError::io(awaiting))?;
        loop {
            match self.lines.next(&mut self.input, awaiting)? {
                Some(line) => return Ok(line),
                None => self.read(awaiting).await?,
            }
        }
    }

    async fn bytes(&mut self, length: usize) -> Result<BytesMut, ReplicationError> {
        while self.input.len() < length {
            self.read(Step::Info.awaiting()).await?;
        }
        Ok(self.input.split_to(length))
    }

    async fn read(&mut self, awaiting: &'static str) -> Result<(), ReplicationError> {
        self.input.reserve(READ);
        match self.socket.read_buf(&mut self.input).await.map_err(ReplicationError::io(awaiting))? {
            0 => Err(ReplicationError::Closed { awaiting }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::Secret;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Asks a peer that answers each command with the next of `answers`.
    async fn ask(credentials: Option<&Credentials>, answers: &[&str]) -> Result<Info, ReplicationError> {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let answer = async {
            for answer in answers {
                let mut command = [0; 64];
                assert!(theirs.read(&mut command).await.expect("a command") > 0);
                theirs.write_all(answer.as_bytes()).await.expect("taken");
            }
            drop(theirs);
        };
        tokio::join!(ask_info(&mut ours, credentials, LIMIT), answer).0
    }

    #[tokio::test]
    async fn a_server_is_asked_with_and_without_a_password() {
        let info = "$17\r\nrole:master\r\na:b\r\n";
        let credentials = Credentials { user: None, password: Secret::new("hunter2".to_owned()) };
        for (credentials, answers) in [(None, vec![info]), (Some(&credentials), vec!["+OK\r\n", info])] {
            let info = ask(credentials, &answers).await.expect("an answer");
            assert_eq!((info.get("role"), info.get("a")), (Some("master"), Some("b")));
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_apart() {
        let check = async |answer: &str, expect: &str| {
            let error = ask(None, &[answer]).await.expect_err("no answer");
            assert!(error.to_string().contains(expect), "{error}");
        };
        check("-NOAUTH Authentication required.\r\n", "wants a password").await;
        check("-LOADING x\r\n", "is loading").await;
        check("+PONG\r\n", "unexpected answer to INFO").await;
        check("$99999999\r\n", "unexpected answer to INFO").await;
        check("$-1\r\n", "unexpected answer to INFO").await;
        check("$100\r\nshort", "ended while waiting").await;
    }
}
