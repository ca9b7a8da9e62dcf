//! Describes the service of the example `tonic` in code, so that no `protoc` is needed.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let render = Method::builder()
        .name("render")
        .route_name("Render")
        .input_type("crate::RenderRequest")
        .output_type("crate::RenderReply")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let renderer = Service::builder().name("Renderer").package("example.renderer").method(render).build();
    Builder::new().compile(&[renderer]);
}
