// meter.ts finds the tokens in an answer that comes in pieces, without keeping it: a JSON object, or server-sent events with
// one in each. It reads OpenAI's names and Anthropic's, and is lenient: what is not understood counts nothing.

const quote: u8 = 0x22;
const backslash: u8 = 0x5c;
const lineFeed: u8 = 0x0a;
const carriageReturn: u8 = 0x0d;

const longestName = 32; // no name that matters is longer
const deepest = 64; // an object that nests deeper counts nothing

export class Meter {
  // The largest that were told: counts in a stream are totals, and grow.
  prompt: i64 = 0; // with what was read from a cache
  promptOnly: i64 = 0; // without
  cacheRead: i64 = 0;
  cacheWritten: i64 = 0;
  completion: i64 = 0;
  deltas: i64 = 0; // pieces of text in a stream

  private events: bool;

  // Of the line of events that has begun:
  private column: i32 = 0; // how much of "data:" has been seen; -1 is another line, 5 is data
  private afterCR: bool = false;
  private emptyLine: bool = true;

  // Of the JSON text that has begun:
  private depth: i32 = 0;
  private kinds: Uint8Array = new Uint8Array(deepest + 1); // { or [, by depth
  private broken: bool = false;
  private inString: bool = false;
  private escaped: bool = false;
  private isName: bool = false; // the string is
  private wantsName: bool = false; // a string that begins now is
  private afterColon: bool = false;
  private name: Uint8Array = new Uint8Array(longestName);
  private nameLength: i32 = 0; // of the last name; longestName + 1 is too long
  private stringLength: i32 = 0;
  private usageDepth: i32 = 0; // of the object usage; 0 is none
  private deltaDepth: i32 = 0; // of the object delta; 0 is none
  private hasDelta: bool = false; // this text has one that says something
  private number: i64 = -1; // under way in usage; -1 is none

  constructor(events: bool) {
    this.events = events;
  }

  // feed takes the next piece.
  feed(piece: Uint8Array): void {
    const at = piece.dataStart;
    for (let i = 0; i < piece.length; i++) {
      const c = load<u8>(at + i);
      if (this.events) this.eventByte(c);
      else this.byte(c);
    }
  }

  // input is the number of tokens that were read, as far as it was told.
  input(): i64 {
    const all = this.promptOnly + this.cacheRead + this.cacheWritten;
    return this.prompt > all ? this.prompt : all;
  }

  // estimated says whether output is only the number of pieces that came: nothing was told, or a stream broke off before its
  // last count.
  estimated(): bool {
    return this.deltas > this.completion;
  }

  // output is the number of tokens that were written. A piece holds at least one.
  output(): i64 {
    return max(this.deltas, this.completion);
  }

  private eventByte(c: u8): void {
    const afterCR = this.afterCR;
    this.afterCR = c == carriageReturn;
    if (c == lineFeed && afterCR) return;
    if (c == lineFeed || c == carriageReturn) {
      if (this.emptyLine) this.reset();
      this.column = 0;
      this.emptyLine = true;
      return;
    }
    this.emptyLine = false;
    if (this.column == 5) this.byte(c);
    else if (this.column >= 0) this.column = c == load<u8>(changetype<usize>(prefix) + this.column) ? this.column + 1 : -1;
  }

  // reset begins another JSON text.
  private reset(): void {
    this.depth = 0;
    this.broken = this.inString = this.escaped = this.isName = this.wantsName = this.hasDelta = this.afterColon = false;
    this.nameLength = this.usageDepth = this.deltaDepth = 0;
    this.number = -1;
  }

  private byte(c: u8): void {
    if (this.broken) return;
    if (this.inString) {
      this.stringByte(c);
      return;
    }
    if (this.number >= 0) {
      if (c >= 0x30 && c <= 0x39) {
        if (this.number < 1000000000000) this.number = this.number * 10 + (c - 0x30);
        return;
      }
      this.counted();
    }
    const afterColon = this.afterColon;
    this.afterColon = c == 0x3a || (afterColon && (c == 0x20 || c == 0x09));
    switch (c) {
      case quote:
        this.inString = true;
        this.isName = this.wantsName;
        this.stringLength = 0;
        if (this.isName) this.nameLength = 0;
        return;
      case 0x7b: // {
      case 0x5b: // [
        this.open(c);
        return;
      case 0x7d: // }
      case 0x5d: // ]
        this.close(c);
        return;
      case 0x2c: // a comma
        this.wantsName = this.depth > 0 && this.kinds[this.depth] == 0x7b;
        return;
      case 0x3a: // a colon
        this.wantsName = false;
        return;
    }
    if (afterColon && c >= 0x30 && c <= 0x39 && this.usageDepth > 0 && this.depth == this.usageDepth) this.number = c - 0x30;
  }

  private stringByte(c: u8): void {
    if (this.escaped) {
      this.escaped = false;
    } else if (c == backslash) {
      this.escaped = true;
    } else if (c == quote) {
      this.inString = false;
      if (!this.isName && this.stringLength > 0 && this.saysSomething()) {
        this.hasDelta = true;
        this.deltas++;
      }
      return;
    }
    this.stringLength = 1;
    if (this.isName && this.nameLength <= longestName) {
      if (this.nameLength < longestName) this.name[this.nameLength] = c;
      this.nameLength++;
    }
  }

  // saysSomething tells whether the string that has ended is the first piece of text in an event.
  private saysSomething(): bool {
    if (!this.events || this.hasDelta) return false;
    if (this.deltaDepth == 0) return this.depth == 1 && this.named("delta");
    return this.named("content") || this.named("text") || this.named("partial_json") || this.named("arguments") ||
      this.named("thinking") || this.named("reasoning_content") || this.named("refusal");
  }

  private open(c: u8): void {
    if (this.depth == deepest) {
      this.broken = true;
      return;
    }
    // A name belongs to the value right after it: none in an array.
    const isMember = this.depth > 0 && this.kinds[this.depth] == 0x7b;
    if (c == 0x7b && isMember) {
      if (this.usageDepth == 0 && this.depth <= 2 && this.named("usage")) this.usageDepth = this.depth + 1;
      if (this.deltaDepth == 0 && this.named("delta")) this.deltaDepth = this.depth + 1;
    }
    this.depth++;
    this.kinds[this.depth] = c;
    this.wantsName = c == 0x7b;
  }

  private close(c: u8): void {
    if (this.depth == 0 || this.kinds[this.depth] + 2 != c) { // { and }, [ and ] are two apart
      this.broken = true;
      return;
    }
    if (this.depth == this.usageDepth) this.usageDepth = 0;
    if (this.depth == this.deltaDepth) this.deltaDepth = 0;
    this.depth--;
    this.wantsName = false;
  }

  // counted takes the number that has ended.
  private counted(): void {
    const n = this.number;
    this.number = -1;
    if (this.named("prompt_tokens")) this.prompt = max(this.prompt, n);
    else if (this.named("input_tokens")) this.promptOnly = max(this.promptOnly, n);
    else if (this.named("cache_read_input_tokens")) this.cacheRead = max(this.cacheRead, n);
    else if (this.named("cache_creation_input_tokens")) this.cacheWritten = max(this.cacheWritten, n);
    else if (this.named("completion_tokens") || this.named("output_tokens")) this.completion = max(this.completion, n);
  }

  private named(name: string): bool {
    if (this.nameLength != name.length) return false;
    for (let i = 0; i < name.length; i++) {
      if (this.name[i] != <u8>name.charCodeAt(i)) return false;
    }
    return true;
  }
}

const prefix: ArrayBuffer = String.UTF8.encode("data:");
