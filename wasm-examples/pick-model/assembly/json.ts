// Walks through a JSON text without making anything of it.

const maxDepth = 256; // deeper nesting counts as invalid
const maxString = 1024; // a longer string comes back empty: what is compared here is shorter

// Brackets; each is closed by the character two after it.
export const brace: u8 = 0x7b;
export const bracket: u8 = 0x5b;

const quote: u8 = 0x22;
const backslash: u8 = 0x5c;

// Walker stands somewhere in a text. Its functions read on; once something else stands there, failed is set and stays.
//
//   for (let more = w.begin(brace); more; more = w.more(brace)) {
//     const name = w.name();
//     w.skip();
//   }
export class Walker {
  at: i32 = 0;
  failed: bool = false;
  private depth: i32 = 0;

  constructor(private text: Uint8Array) {}

  // peek returns the next character that is not white space, 0 at the end.
  peek(): u8 {
    while (this.at < this.text.length) {
      const c = this.text[this.at];
      if (c != 0x20 && c != 0x09 && c != 0x0a && c != 0x0d) return c;
      this.at++;
    }
    return 0;
  }

  // end says whether nothing has failed and nothing is left.
  end(): bool {
    return this.peek() == 0 && this.at == this.text.length && !this.failed;
  }

  // begin reads an opening bracket, and says whether an item comes.
  begin(open: u8): bool {
    if (!this.take(open) || ++this.depth > maxDepth) return this.fail();
    if (this.peek() != open + 2) return true;
    this.at++;
    this.depth--;
    return false;
  }

  // more reads a comma or the closing bracket, and says whether an item comes.
  more(open: u8): bool {
    if (this.failed) return false;
    if (this.take(0x2c)) return true;
    this.depth--;
    return this.take(open + 2) ? false : this.fail();
  }

  // name reads a member's name and the colon.
  name(): string {
    const name = this.string();
    if (!this.take(0x3a)) this.fail();
    return name;
  }

  // string reads a string and returns it without escapes.
  string(): string {
    if (!this.take(quote)) {
      this.fail();
      return "";
    }
    const start = this.at;
    let escaped = false;
    while (this.at < this.text.length) {
      const c = this.text[this.at++];
      if (c == quote) {
        const end = this.at - 1;
        if (end - start > maxString) return "";
        return escaped ? this.unescape(start, end) : this.utf8(start, end);
      }
      if (c < 0x20) break;
      if (c == backslash) {
        escaped = true;
        if (!this.escape()) break;
      }
    }
    this.fail();
    return "";
  }

  // integer reads a whole number that is not negative.
  integer(): i32 {
    this.peek();
    const start = this.at;
    if (!this.digits() || this.at - start > 9) this.fail();
    return this.failed ? 0 : I32.parseInt(this.utf8(start, this.at));
  }

  // skip reads any value.
  skip(): void {
    const c = this.peek();
    if (this.failed) return;
    if (c == brace) {
      for (let more = this.begin(brace); more; more = this.more(brace)) {
        this.skipString();
        if (!this.take(0x3a)) this.fail();
        this.skip();
      }
    } else if (c == bracket) {
      for (let more = this.begin(bracket); more; more = this.more(bracket)) this.skip();
    } else if (c == quote) {
      this.skipString();
    } else if (!this.word("true") && !this.word("false") && !this.word("null") && !this.number()) {
      this.fail();
    }
  }

  private skipString(): void {
    if (!this.take(quote)) {
      this.fail();
      return;
    }
    while (this.at < this.text.length) {
      const c = this.text[this.at++];
      if (c == quote) return;
      if (c < 0x20 || (c == backslash && !this.escape())) break;
    }
    this.fail();
  }

  // escape reads what comes after a backslash.
  private escape(): bool {
    if (this.at == this.text.length) return false;
    const c = this.text[this.at++];
    if (c == quote || c == backslash || c == 0x2f) return true;
    if (c == 0x62 || c == 0x66 || c == 0x6e || c == 0x72 || c == 0x74) return true; // b f n r t
    if (c != 0x75) return false;
    for (let i = 0; i < 4; i++) {
      if (this.at == this.text.length || hex(this.text[this.at++]) < 0) return false;
    }
    return true;
  }

  private number(): bool {
    this.char(0x2d);
    if (!this.char(0x30) && !this.digits()) return false;
    if (this.char(0x2e) && !this.digits()) return false;
    if (this.char(0x65) || this.char(0x45)) {
      if (!this.char(0x2b)) this.char(0x2d);
      return this.digits();
    }
    return true;
  }

  private digits(): bool {
    const start = this.at;
    while (this.at < this.text.length && this.text[this.at] - 0x30 < 10) this.at++;
    return this.at > start;
  }

  private word(word: string): bool {
    if (this.text.length - this.at < word.length) return false;
    for (let i = 0; i < word.length; i++) {
      if (this.text[this.at + i] != word.charCodeAt(i)) return false;
    }
    this.at += word.length;
    return true;
  }

  private take(c: u8): bool {
    this.peek();
    return this.char(c);
  }

  private char(c: u8): bool {
    if (this.at == this.text.length || this.text[this.at] != c) return false;
    this.at++;
    return true;
  }

  private fail(): bool {
    this.failed = true;
    return false;
  }

  private utf8(start: i32, end: i32): string {
    const said = String.UTF8.decodeUnsafe(this.text.dataStart + start, end - start);
    // Bytes that are not UTF-8 get lost in decoding, and must not make a name of ours.
    return String.UTF8.byteLength(said) == end - start ? said : said + "\ufffd";
  }

  private unescape(start: i32, end: i32): string {
    let said = "";
    let plain = start; // from here on nothing was escaped
    for (let i = start; i < end; i++) {
      if (this.text[i] != backslash) continue;
      said += this.utf8(plain, i);
      let c = <i32>this.text[++i];
      if (c == 0x75) {
        c = 0;
        for (let d = 1; d <= 4; d++) c = (c << 4) | hex(this.text[i + d]);
        i += 4;
      } else if (c == 0x62) c = 0x08;
      else if (c == 0x66) c = 0x0c;
      else if (c == 0x6e) c = 0x0a;
      else if (c == 0x72) c = 0x0d;
      else if (c == 0x74) c = 0x09;
      said += String.fromCharCode(c);
      plain = i + 1;
    }
    return said + this.utf8(plain, end);
  }
}

function hex(c: u8): i32 {
  if (c - 0x30 < 10) return c - 0x30;
  c |= 0x20;
  return c >= 0x61 && c <= 0x66 ? c - 0x61 + 10 : -1;
}
