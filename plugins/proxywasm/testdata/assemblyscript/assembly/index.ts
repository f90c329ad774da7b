export * from "@solo-io/proxy-runtime/proxy";
import {
  BaseContext, Context, Counter, FilterHeadersStatusValues, FilterTrailersStatusValues, GrpcStatusValues, HeaderPair, Headers,
  LogLevelValues, RootContext, WasmResultValues, continue_request, log, registerRootContext, send_local_response, stream_context,
} from "@solo-io/proxy-runtime";
import { BufferTypeValues, get_buffer_bytes, get_property, set_property, set_tick_period_milliseconds } from "@solo-io/proxy-runtime/runtime";

function pair(name: string, value: string): HeaderPair {
  return new HeaderPair(String.UTF8.encode(name), String.UTF8.encode(value));
}

// The SDK cannot change bodies, nor read shared data.
class Plugin extends RootContext {
  requests: Counter = new Counter("sdk.requests");
  ticks: i32 = 0;

  onConfigure(size: u32): bool {
    if (size == 0) {
      log(LogLevelValues.critical, "no config");
      return false;
    }
    super.onConfigure(size);
    set_tick_period_milliseconds(1);
    return true;
  }

  onTick(): void {
    if (++this.ticks == 3) {
      set_tick_period_milliseconds(0);
      log(LogLevelValues.info, "ticked");
    }
  }

  createContext(id: u32): Context { return new Stream(id, this); }
}

class Stream extends Context {
  plugin: Plugin;

  constructor(id: u32, plugin: Plugin) {
    super(id, plugin);
    this.plugin = plugin;
  }

  onRequestHeaders(n: u32, end: bool): FilterHeadersStatusValues {
    this.plugin.requests.increment(1);
    set_property("sdk\0method", get_property("request\0method"));
    const headers = stream_context.headers.request;
    const path = headers.get(":path");
    if (path == "/deny") {
      send_local_response(403, "denied", String.UTF8.encode("denied"), [pair("x-why", "test")], GrpcStatusValues.Unknown);
      return FilterHeadersStatusValues.StopIteration;
    }
    if (path == "/call") {
      const question: Headers = [pair(":method", "GET"), pair(":path", "/check"), pair(":authority", "auth")];
      const st = this.plugin.httpCall("auth", question, String.UTF8.encode("question"), [], 1000, this,
        (origin: BaseContext, headers: u32, size: usize, trailers: u32) => {
          const body = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.HttpCallResponseBody, 0, size as u32));
          stream_context.headers.request.add("x-auth", body);
          continue_request();
        });
      assert(st == WasmResultValues.Ok);
      return FilterHeadersStatusValues.StopIteration;
    }
    assert(path != "/trap");
    headers.replace("x-count", headers.get_headers().length.toString());
    headers.replace("x-greeting", this.plugin.getConfiguration());
    return FilterHeadersStatusValues.Continue;
  }

  onResponseHeaders(n: u32, end: bool): FilterHeadersStatusValues {
    stream_context.headers.response.add("x-method", String.UTF8.decode(get_property("sdk\0method")));
    stream_context.headers.response.remove("server");
    return FilterHeadersStatusValues.Continue;
  }

  onResponseTrailers(n: u32): FilterTrailersStatusValues {
    stream_context.trailers.response.add("x-tail", "seen");
    return FilterTrailersStatusValues.Continue;
  }

  onLog(): void { log(LogLevelValues.info, "bye"); }
}

registerRootContext((id: u32): RootContext => new Plugin(id), "edge");
