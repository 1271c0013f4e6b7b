//! From a request to the file that answers it.

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use tower_http::services::ServeFile;

use crate::atom::Name;
use crate::binhost::generation;
use crate::binhost::path::PackagePath;
use crate::fs;
use crate::state::State;

/// The files of a generation that are not packages.
const FILES: [&str; 5] = ["Packages", "Packages.gz", "statement.json", "statement.json.asc", "key.asc"];

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Profiles,
    File(Name, &'static str),
    Package(Name, PackagePath),
}

impl Target {
    /// Returns what a request's path asks for; nothing where there cannot be such a file.
    fn parse(path: &str) -> Option<Self> {
        let path = decode(path)?;
        let path = path.strip_prefix('/')?;
        if path.is_empty() {
            return Some(Self::Profiles);
        }
        let (profile, rest) = path.split_once('/')?;
        let profile = profile.parse().ok()?;
        match FILES.into_iter().find(|name| *name == rest) {
            Some(name) => Some(Self::File(profile, name)),
            None => Some(Self::Package(profile, rest.parse().ok()?)),
        }
    }
}

/// Answers one request.
pub(super) async fn answer(Shared(state): Shared<State>, request: Request<Body>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    // An index is asked for anew each time; a package's name stands for its bytes for ever.
    let (profile, name, caching) = match Target::parse(request.uri().path()) {
        None => return missing(),
        Some(Target::Profiles) => return profiles(&state),
        Some(Target::File(profile, name)) => (profile, name.to_string(), "no-cache"),
        Some(Target::Package(profile, path)) => (profile, path.to_string(), "public, max-age=31536000, immutable"),
    };
    let profile = state.profile(&profile);
    let number = match generation::current_number(&profile) {
        Ok(Some(number)) => number,
        Ok(None) => return missing(),
        Err(_) => return plain(StatusCode::INTERNAL_SERVER_ERROR, "the profile has no generation that can be read\n"),
    };
    let file = profile.generations().join(number.to_string()).join(name);
    if !fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_file()) {
        return missing();
    }
    match ServeFile::new(file).try_call(request).await {
        Ok(response) => {
            let mut response = response.map(Body::new);
            if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
            }
            response
        }
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read\n"),
    }
}

#[derive(serde::Serialize)]
struct Profile {
    profile: Name,
    serial: u64,
}

/// Returns the list of profiles that have a generation.
fn profiles(state: &State) -> Response<Body> {
    let published = generation::published(state).into_iter();
    let profiles: Vec<_> = published.map(|(profile, serial)| Profile { profile, serial }).collect();
    let text = serde_json::to_string_pretty(&profiles).expect("names and numbers are JSON") + "\n";
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn missing() -> Response<Body> {
    plain(StatusCode::NOT_FOUND, "there is no such file\n")
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Undoes percent-encoding (RFC 3986, 2.1); nothing where it is wrong or does not give UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.extend(crate::digest::unhex(digits)?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_of_the_names_there_are() {
        let name = || "amd64".parse().unwrap();
        assert_eq!(Target::parse("/"), Some(Target::Profiles));
        for file in FILES {
            assert_eq!(Target::parse(&format!("/amd64/{file}")), Some(Target::File(name(), file)));
        }
        let package = "x11-libs/gtk+/gtk+-3.24-1.gpkg.tar";
        for path in [format!("/amd64/{package}"), format!("/amd64/{}", package.replace('+', "%2B"))] {
            assert_eq!(Target::parse(&path), Some(Target::Package(name(), package.parse().unwrap())));
        }
    }

    #[test]
    fn no_path_leads_elsewhere() {
        for path in [
            "",
            "//",
            "/amd64",
            "/amd64/",
            "/amd64/../other/Packages",
            "/../../etc/passwd",
            "/amd64/..%2f..%2f..%2fetc%2fpasswd",
            "/%2e%2e/lock",
            "/amd64/%2e%2e/lock",
            "/amd64/../lock",
            "/amd64/lock",
            "/amd64/pool/app-misc/hello/hello-1-1.gpkg.tar",
            "/amd64/app-misc/hello/hello-1-1.json",
            "/amd64/app-misc/hello/.new-x",
            "/amd64//Packages",
            "/amd64/./Packages",
            "/.amd64/Packages",
            "/amd64/Packages%00",
            "/amd64/Packages%",
            "/amd64/Packages%2",
            "/amd64/Packages%zz",
            "/amd64/%ff",
            "amd64/Packages",
        ] {
            assert_eq!(Target::parse(path), None, "{path}");
        }
    }
}
