use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, LogLevel, MetricType};
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Plugin { greeting: String::new(), requests: 0 }) });
}}

struct Plugin {
    greeting: String,
    requests: u32,
}

impl Context for Plugin {}

impl RootContext for Plugin {
    fn on_configure(&mut self, _size: usize) -> bool {
        let config = match self.get_plugin_configuration() {
            Some(config) => config,
            None => {
                log::error!("no config");
                return false;
            }
        };
        self.greeting = String::from_utf8(config).unwrap();
        self.requests = proxy_wasm::hostcalls::define_metric(MetricType::Counter, "sdk.requests").unwrap();
        self.set_tick_period(Duration::from_millis(1));
        true
    }

    fn on_tick(&mut self) {
        let (value, cas) = self.get_shared_data("ticks");
        let mut value: Bytes = value.unwrap_or_default();
        value.push(b'.');
        if self.set_shared_data("ticks", Some(&value), cas).is_ok() && value.len() == 3 {
            self.set_tick_period(Duration::from_millis(0));
            log::info!("ticked");
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { greeting: self.greeting.clone(), requests: self.requests }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    greeting: String,
    requests: u32,
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _token: u32, _headers: usize, size: usize, _trailers: usize) {
        let body = self.get_http_call_response_body(0, size).unwrap();
        self.add_http_request_header("x-auth", std::str::from_utf8(&body).unwrap());
        self.resume_http_request();
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _n: usize, _end: bool) -> Action {
        proxy_wasm::hostcalls::increment_metric(self.requests, 1).unwrap();
        match self.get_http_request_header(":path").as_deref() {
            Some("/deny") => {
                self.send_http_response(403, vec![("x-why", "test")], Some(b"denied"));
                return Action::Pause;
            }
            Some("/call") => {
                self.dispatch_http_call(
                    "auth",
                    vec![(":method", "GET"), (":path", "/check"), (":authority", "auth")],
                    Some(b"question"),
                    vec![],
                    Duration::from_secs(1),
                )
                .unwrap();
                return Action::Pause;
            }
            Some("/trap") => panic!("as asked"),
            _ => {}
        }
        let count = self.get_http_request_headers().len().to_string();
        self.set_http_request_header("x-count", Some(&count));
        self.set_http_request_header("x-greeting", Some(&self.greeting));
        let method = self.get_property(vec!["request", "method"]).unwrap();
        self.set_property(vec!["sdk", "method"], Some(&method));
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        if !end {
            return Action::Pause;
        }
        let mut body = self.get_http_request_body(0, size).unwrap_or_default().to_ascii_uppercase();
        body.push(b'!');
        self.set_http_request_body(0, size, &body);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _n: usize, _end: bool) -> Action {
        if let Some(method) = self.get_property(vec!["sdk", "method"]) {
            self.add_http_response_header("x-method", std::str::from_utf8(&method).unwrap());
        }
        self.set_http_response_header("server", None);
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, _end: bool) -> Action {
        if size > 0 {
            self.set_http_response_body(0, 0, b">");
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _n: usize) -> Action {
        self.add_http_response_trailer("x-tail", "seen");
        Action::Continue
    }

    fn on_log(&mut self) {
        log::info!("bye");
    }
}
