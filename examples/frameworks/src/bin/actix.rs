//! Pages of a slow source behind actix-web:
//! `cargo run --manifest-path examples/frameworks/Cargo.toml --bin actix`.
//!
//! The cache is one handle in the data of the application. Each worker of actix-web has an executor of its
//! own, and all of them share one load of a page. A client that goes away ends its request: `load` goes on
//! without it, `get_with` would not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::web::{Data, Path};
use actix_web::{App, HttpResponse, HttpServer, Responder, delete, get};
use larder::{AsyncCache, ucache};

/// What a handler sees: a cache of pages, and the source that it fills it from.
struct Pages {
    cache: AsyncCache<String, String>,
    renders: AtomicU64,
}

impl Pages {
    fn open(dir: &std::path::Path) -> larder::Result<Self> {
        let cache = ucache("pages")
            .dir(dir)
            .ttl(Duration::from_secs(60))
            .stale(Duration::from_secs(600))
            .hard_timeout(Duration::from_secs(2))
            .build()?
            .to_async();
        Ok(Self { cache, renders: AtomicU64::new(0) })
    }
}

#[get("/pages/{name}")]
async fn page(pages: Data<Pages>, name: Path<String>) -> impl Responder {
    let source = Data::clone(&pages);
    let name = name.into_inner();
    let load = pages.cache.load(name.clone(), move |_| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let render = source.renders.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(format!("<h1>{name}</h1><!-- render {render} -->"))
    });
    match load.await {
        Ok(page) => HttpResponse::Ok().content_type("text/html").body(page),
        Err(error) => HttpResponse::BadGateway().body(error.to_string()),
    }
}

/// Expires a page. It may still be served as stale while the source fails.
#[delete("/pages/{name}")]
async fn expire(pages: Data<Pages>, name: Path<String>) -> impl Responder {
    match pages.cache.invalidate(name.as_str()).await {
        Ok(_) => HttpResponse::NoContent().finish(),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

#[get("/stats")]
async fn stats(pages: Data<Pages>) -> impl Responder {
    pages.cache.stats().to_string()
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let dir_of_pages = dir.path().to_owned();
    // `open` blocks while it opens the directory, so it runs beside the executor.
    let pages = Data::new(actix_web::web::block(move || Pages::open(&dir_of_pages)).await??);
    let served = Data::clone(&pages);
    println!("http://127.0.0.1:8080/pages/index; Ctrl-C ends it");
    HttpServer::new(move || {
        App::new().app_data(Data::clone(&served)).service(page).service(expire).service(stats)
    })
    .bind(("127.0.0.1", 8080))?
    .run()
    .await?;
    // The server has stopped: no handler uses the cache any more.
    pages.cache.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::http::StatusCode;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};

    use super::*;

    #[actix_web::test]
    async fn requests_for_one_page_share_one_render() {
        let dir = tempfile::tempdir().unwrap();
        let pages = Data::new(Pages::open(dir.path()).unwrap());
        let app = init_service(App::new().app_data(Data::clone(&pages)).service(page).service(expire)).await;
        let get = || TestRequest::get().uri("/pages/index").to_request();
        let (one, other) = tokio::join!(call_service(&app, get()), call_service(&app, get()));
        assert_eq!((one.status(), other.status()), (StatusCode::OK, StatusCode::OK));
        assert_eq!(read_body(one).await, read_body(other).await);
        assert_eq!(pages.renders.load(Ordering::Relaxed), 1);

        let delete = TestRequest::delete().uri("/pages/index").to_request();
        assert_eq!(call_service(&app, delete).await.status(), StatusCode::NO_CONTENT);
        call_service(&app, get()).await;
        assert_eq!(pages.renders.load(Ordering::Relaxed), 2);
        pages.cache.close().await.unwrap();
    }
}
