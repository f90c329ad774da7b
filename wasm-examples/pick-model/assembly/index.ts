// pick-model replaces the model that a request names, by the rules of its configuration. The first rule that fits wins:
//
//   {"rules": [{"model": "auto", "over_bytes": 2000, "use": "demo/demo-large"}, {"model": "auto", "use": "demo/demo-small"}]}

import { configuration, debug, error, keepBodies, log, readBody, refuse, setResponseHeader, writeBody } from "./http_handler";
import { brace, bracket, Walker } from "./json";

class Rule {
  model: string = ""; // none fits any model
  overBytes: i32 = -1; // of the prompt, as it stands in the request
  use: string = "";
  useText: Uint8Array = new Uint8Array(0);
}

let header = "x-picked-model";
const rules = configure(configuration());
keepBodies();

function configure(text: Uint8Array): Rule[] {
  const rules: Rule[] = [];
  const w = new Walker(text);
  let known = true;
  if (text.length > 0) {
    for (let more = w.begin(brace); more; more = w.more(brace)) {
      const name = w.name();
      if (name == "rules") {
        for (let more = w.begin(bracket); more; more = w.more(bracket)) rules.push(rule(w));
      } else if (name == "header") {
        header = w.string();
      } else {
        known = false;
        w.skip();
      }
    }
    if (!known || !w.end() || !visible(header)) {
      refuse('configuration: want {"rules": [{"model": "name", "over_bytes": 2000, "use": "name"}, ...], "header": "name"}');
    }
  }
  return rules;
}

function rule(w: Walker): Rule {
  const r = new Rule();
  for (let more = w.begin(brace); more; more = w.more(brace)) {
    const name = w.name();
    if (name == "model") r.model = w.string();
    else if (name == "over_bytes") r.overBytes = w.integer();
    else if (name == "use") r.use = w.string();
    else refuse("configuration: a rule has model, over_bytes and use");
  }
  if (!visible(r.use)) refuse("configuration: a rule's use must be visible ASCII without quotes and backslashes");
  r.useText = Uint8Array.wrap(String.UTF8.encode(r.use));
  return r;
}

// visible says whether a name can stand in JSON and in a header as it is.
function visible(name: string): bool {
  for (let i = 0; i < name.length; i++) {
    const c = name.charCodeAt(i);
    if (c <= 0x20 || c >= 0x7f || c == 0x22 || c == 0x5c) return false;
  }
  return name.length > 0;
}

export function handle_request(): u64 {
  const body = readBody();
  const w = new Walker(body);
  let model = "";
  let start = 0; // of what is between the quotes
  let end = 0;
  let models = 0;
  let promptBytes = 0;
  for (let more = w.begin(brace); more; more = w.more(brace)) {
    const name = w.name();
    w.peek();
    const at = w.at;
    if (name == "model") {
      model = w.string();
      start = at + 1;
      end = w.at - 1;
      models++;
      continue;
    }
    w.skip();
    if (name == "messages" || name == "prompt" || name == "input") promptBytes += w.at - at;
  }
  if (!w.end() || models != 1) {
    log(debug, "not JSON with one model, passed as it is");
    return 1;
  }
  for (let i = 0; i < rules.length; i++) {
    const r = rules[i];
    if ((r.model != "" && r.model != model) || promptBytes <= r.overBytes) continue;
    if (r.use != model) {
      writeBody(body, 0, start);
      writeBody(r.useText, 0, r.useText.length);
      writeBody(body, end, body.length);
    }
    setResponseHeader(header, r.use);
    break;
  }
  return 1;
}

export function handle_response(context: u32, failed: u32): void {}

// abort is what AssemblyScript calls instead of throwing.
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  refuse(message != null ? message : "aborted");
}
