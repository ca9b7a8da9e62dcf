//! Replies of a slow method behind tonic:
//! `cargo run --manifest-path examples/frameworks/Cargo.toml --bin tonic`.
//!
//! The cache is a field of the service. tonic drops a handler whose client goes away or whose deadline has
//! passed: `load` goes on without it, so the next client finds the reply.

use std::time::Duration;

use larder::{AsyncCache, LoadError, bcache};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use self::generated::renderer_client::RendererClient;
use self::generated::renderer_server::{Renderer, RendererServer};

mod generated {
    include!(concat!(env!("OUT_DIR"), "/example.renderer.Renderer.rs"));
}

/// What is rendered. It is the key as well, so it derives what a key needs.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message, serde::Serialize, serde::Deserialize)]
pub struct RenderRequest {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub width: u32,
}

#[derive(Clone, PartialEq, prost::Message, serde::Serialize, serde::Deserialize)]
pub struct RenderReply {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(uint32, tag = "2")]
    pub process: u32,
}

/// The service: a method and the cache of its replies.
struct CachedRenderer {
    replies: AsyncCache<RenderRequest, RenderReply>,
}

#[tonic::async_trait]
impl Renderer for CachedRenderer {
    async fn render(&self, request: Request<RenderRequest>) -> Result<Response<RenderReply>, Status> {
        let request = request.into_inner();
        if request.width == 0 {
            return Err(Status::invalid_argument("width: given 0, allowed 1 to 4294967295"));
        }
        let loaded = self.replies.load(request.clone(), move |_| render(request)).await;
        match loaded {
            Ok(reply) => Ok(Response::new(reply)),
            Err(error @ LoadError::Timeout { .. }) => Err(Status::deadline_exceeded(error.to_string())),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}

async fn render(request: RenderRequest) -> Result<RenderReply, std::io::Error> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(RenderReply {
        text: format!("{:>1$}", request.name, request.width as usize),
        process: std::process::id(),
    })
}

async fn serve(
    listener: TcpListener,
    replies: AsyncCache<RenderRequest, RenderReply>,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .add_service(RendererServer::new(CachedRenderer { replies }))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let replies = bcache("replies").dir(dir.path()).hard_timeout(Duration::from_secs(2)).build()?.to_async();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(serve(listener, replies.clone()));

    let mut client = RendererClient::connect(address).await?;
    for _ in 0..3 {
        let request = RenderRequest { name: "page".to_owned(), width: 10 };
        let reply = client.render(request).await?.into_inner();
        println!("«{}», rendered by process {}", reply.text, reply.process);
    }
    println!("{}", replies.stats());
    assert_eq!(replies.stats().cache.loads, 1, "the method ran once");
    server.abort();
    Ok(replies.close().await?)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn calls_of_equal_requests_run_the_method_once() {
        let dir = tempfile::tempdir().unwrap();
        let replies = bcache("replies").dir(dir.path()).build().unwrap().to_async();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(serve(listener, replies.clone()));
        let client = RendererClient::connect(address).await.unwrap();

        let calls = (0..8).map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.render(RenderRequest { name: "a".to_owned(), width: 3 }).await })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap().unwrap().into_inner().text, "  a");
        }
        assert_eq!(replies.stats().cache.loads, 1);
        let refused = client.clone().render(RenderRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        server.abort();
        replies.close().await.unwrap();
    }
}
