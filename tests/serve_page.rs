//! The page at `/` as a browser gets it: its headers, its parts, and who may see it.

mod support;

use support::node::{Config, Node, client};

const TOKEN: &str = "a-token-of-24-characters";
const PARTS: [(&str, &str); 4] = [
    ("/", "text/html; charset=utf-8"),
    ("/assets/page.js", "text/javascript; charset=utf-8"),
    ("/assets/page.css", "text/css; charset=utf-8"),
    ("/assets/hls-1.7.4.js", "text/javascript; charset=utf-8"),
];

fn get(request: reqwest::RequestBuilder) -> (u16, reqwest::header::HeaderMap, String) {
    support::node::runtime().block_on(async {
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, headers, answer.text().await.expect("a text"))
    })
}

#[test]
fn the_page_and_its_parts_are_there_with_a_strict_policy() {
    let node = Node::start(&Config::default());
    for (path, content_type) in PARTS {
        let (status, headers, body) = get(client().get(node.url(path)));
        let header =
            |name: &str| headers.get(name).unwrap_or_else(|| panic!("{path} lacks {name}")).to_str().unwrap();
        assert_eq!((status, header("content-type")), (200, content_type), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert!(!headers.contains_key("access-control-allow-origin"));
        let immutable = path.starts_with("/assets/hls-");
        assert_eq!(header("cache-control").contains("immutable"), immutable, "{path}");
        assert!(!body.is_empty());

        let again = client().get(node.url(path)).header("if-none-match", header("etag"));
        let (status, _, body) = get(again);
        assert_eq!((status, body.as_str()), (304, ""), "{path}");
        let (status, head, body) = get(client().head(node.url(path)));
        assert_eq!((status, head["content-length"].to_str().unwrap() != "0", body.as_str()), (200, true, ""));
    }
    assert_eq!(get(client().post(node.url("/"))).0, 405);
    assert_eq!(get(client().get(node.url("/assets/hls-0.js"))).0, 404);
    assert_eq!(get(client().get(node.url("/assets/"))).0, 404);
}

#[test]
fn the_page_wants_no_token_and_all_that_it_asks_does() {
    let node = Node::start(&Config::default().with("http.control_token", TOKEN));
    for (path, _) in PARTS {
        assert_eq!(get(client().get(node.url(path))).0, 200, "{path}");
    }
    for path in ["/node", "/jobs", "/roots", "/assets/", "/assets/other.js"] {
        assert_eq!(get(client().get(node.url(path))).0, 401, "{path}");
    }
    assert_eq!(get(client().get(node.url("/node")).bearer_auth(TOKEN)).0, 200);
}

#[test]
fn a_page_whose_name_was_made_to_point_here_does_not_get_it() {
    let node = Node::start(&Config::default());
    for (path, _) in PARTS {
        let (status, _, body) = get(client().get(node.url(path)).header("host", "evil.example"));
        assert_eq!(status, 403, "{path}: {body}");
        assert!(body.contains("foreign_host"), "{body}");
    }
}
