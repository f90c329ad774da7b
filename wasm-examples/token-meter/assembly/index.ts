// token-meter counts the tokens of answers, which pass untouched and at once, into the counters token_meter_input_tokens and
// token_meter_output_tokens.

export * from "@solo-io/proxy-runtime/proxy"; // what the host calls
import { Context, Counter, FilterDataStatusValues, FilterHeadersStatusValues, log, LogLevelValues, registerRootContext, RootContext, stream_context } from "@solo-io/proxy-runtime";
import { BufferTypeValues, get_buffer_bytes, set_property } from "@solo-io/proxy-runtime/runtime";
import { Meter } from "./meter";

class Root extends RootContext {
  input: Counter = new Counter("token_meter_input_tokens");
  output: Counter = new Counter("token_meter_output_tokens");

  // The SDK's own reads the configuration, and has the host write its length over the module's memory.
  onConfigure(size: u32): bool {
    if (size > 0) log(LogLevelValues.warn, "token-meter: has no settings, and does not read its configuration");
    return true;
  }

  createContext(id: u32): Context {
    return new Exchange(id, this);
  }
}

class Exchange extends Context {
  private root: Root;
  private meter: Meter | null = null; // of an answer that may tell tokens, until it is over

  constructor(id: u32, root: Root) {
    super(id, root);
    this.root = root;
  }

  onRequestHeaders(_: u32, end: bool): FilterHeadersStatusValues {
    stream_context.headers.request.replace("accept-encoding", "identity"); // a compressed answer cannot be read here
    return FilterHeadersStatusValues.Continue;
  }

  onResponseHeaders(_: u32, end: bool): FilterHeadersStatusValues {
    const headers = stream_context.headers.response;
    const type = headers.get("content-type").toLowerCase();
    const encoding = headers.get("content-encoding");
    const events = type.startsWith("text/event-stream");
    if (!events && !type.startsWith("application/json")) return FilterHeadersStatusValues.Continue;
    if (encoding != "" && encoding != "identity") {
      log(LogLevelValues.warn, "token-meter: the answer is compressed, and not counted");
      return FilterHeadersStatusValues.Continue;
    }
    this.meter = new Meter(events);
    return FilterHeadersStatusValues.Continue;
  }

  onResponseBody(size: usize, end: bool): FilterDataStatusValues {
    const meter = this.meter;
    if (meter !== null && size > 0) {
      meter.feed(Uint8Array.wrap(get_buffer_bytes(BufferTypeValues.HttpResponseBody, 0, size as u32)));
    }
    if (end) this.settle();
    return FilterDataStatusValues.Continue;
  }

  onDone(): bool {
    this.settle(); // of an answer that broke off
    return true;
  }

  onLog(): void {}

  onDelete(): void {}

  // settle counts once, and says so.
  private settle(): void {
    const meter = this.meter;
    if (meter === null) return;
    this.meter = null;
    const input = meter.input();
    const output = meter.output();
    if (input == 0 && output == 0) return;
    this.root.input.increment(input as u32);
    this.root.output.increment(output as u32);
    const estimated = meter.estimated();
    const counts = '{"input":' + input.toString() + ',"output":' + output.toString() + ',"estimated":' + (estimated ? "true" : "false") + "}";
    set_property("ai_log\0tokens", String.UTF8.encode(counts));
    log(LogLevelValues.info, "token-meter: input " + input.toString() + ", output " + output.toString() + (estimated ? ", estimated" : ""));
  }
}

// Hosts that are told no root id have none.
registerRootContext((id: u32) => { return new Root(id); }, "");
registerRootContext((id: u32) => { return new Root(id); }, "token-meter");
