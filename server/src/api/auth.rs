//! The token check, before a body is read.

use hyper::HeaderMap;
use tonic::{Request, Status, service::Interceptor};

use crate::access::Token;

/// Lets through what carries `authorization: Bearer TOKEN`, once.
#[derive(Clone, Debug)]
pub(super) struct Auth {
    token: Token,
}

impl Auth {
    /// Wants this token.
    pub(super) fn new(token: Token) -> Auth {
        Auth { token }
    }
}

/// What a request offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// The token, once.
    Right,
    /// Something else.
    Wrong,
    /// Nothing.
    Nothing,
}

/// Looks at `authorization`.
pub(super) fn offered(headers: &HeaderMap, token: &Token) -> Offered {
    let mut offered = headers.get_all("authorization").iter();
    let (Some(first), second) = (offered.next(), offered.next()) else { return Offered::Nothing };
    match (first.as_bytes().strip_prefix(b"Bearer "), second) {
        (Some(bytes), None) if token.matches(bytes) => Offered::Right,
        _ => Offered::Wrong,
    }
}

impl Interceptor for Auth {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match offered(request.metadata().as_ref(), &self.token) {
            Offered::Right => Ok(request),
            Offered::Nothing => Err(Status::unauthenticated(
                "no token; give --access FILE (the coordinator's access.toml), or TASKQ_TOKEN_FILE",
            )),
            Offered::Wrong => Err(Status::unauthenticated(
                "wrong token; take the one in the coordinator's access.toml (--access FILE or TASKQ_TOKEN_FILE)",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(values: &[&str]) -> Result<(), tonic::Code> {
        let token = Token::random();
        let mut request = Request::new(());
        for value in values {
            let value = value.replace("TOKEN", token.reveal());
            request.metadata_mut().append("authorization", value.parse().unwrap());
        }
        Auth::new(token).call(request).map(|_| ()).map_err(|status| status.code())
    }

    #[test]
    fn only_the_right_token_said_once_is_let_in() {
        assert_eq!(call(&["Bearer TOKEN"]), Ok(()));
        for wrong in
            [&[][..], &["TOKEN"], &["Bearer tq_00"], &["bearer TOKEN"], &["Bearer TOKEN", "Bearer TOKEN"]]
        {
            assert_eq!(call(wrong), Err(tonic::Code::Unauthenticated), "{wrong:?}");
        }
    }
}
