// A guest for the tests of package meter, in C: small loops, recursion, calls through pointers, much memory at once.
typedef unsigned char u8;
typedef unsigned u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(#name), noinline))

static u8 memory[1 << 16];
static u8 copy[1 << 16];

void *memset(void *to, int byte, unsigned long size) {
	for (volatile u8 *p = to; size > 0; size--) *p++ = byte;
	return to;
}

void *memcpy(void *to, const void *from, unsigned long size) {
	volatile u8 *p = to;
	for (const u8 *q = from; size > 0; size--) *p++ = *q++;
	return to;
}

EXPORT(quiet) void quiet(void) {}

EXPORT(spin) void spin(void) {
	for (;;) __asm__ volatile("");
}

EXPORT(fill) u32 fill(u32 seed) {
	static const char text[] = "{\"a\": [1, -2.5e3, true, \"x\\\"y\", {\"b\": null}], \"name\": \"a longer text\"},\n";
	for (u32 i = 0; i < sizeof memory; i++) memory[i] = text[(i + seed) % (sizeof text - 1)];
	return sizeof memory;
}

EXPORT(loop) u32 loop(u32 n) {
	u32 x = 1;
	for (u32 i = 0; i < n; i++) x = (x << 5 ^ x >> 3) + i;
	return x;
}

EXPORT(fnv) u32 fnv(u32 rounds) {
	u32 h = 2166136261u;
	for (u32 r = 0; r < rounds; r++)
		for (u32 i = 0; i < sizeof memory; i++) h = (h ^ memory[i]) * 16777619u;
	return h;
}

EXPORT(upper) u32 upper(void) {
	u32 n = 0;
	for (u32 i = 0; i < sizeof memory; i++) {
		u8 c = memory[i];
		if (c >= 'a' && c <= 'z') c -= 32, n++;
		copy[i] = c;
	}
	return n;
}

EXPORT(json) u32 json(void) {
	u32 depth = 0, strings = 0, numbers = 0, deepest = 0;
	for (u32 i = 0; i < sizeof memory; i++) {
		switch (memory[i]) {
		case '{': case '[':
			if (++depth > deepest) deepest = depth;
			break;
		case '}': case ']':
			if (depth > 0) depth--;
			break;
		case '"':
			for (i++; i < sizeof memory && memory[i] != '"'; i++)
				if (memory[i] == '\\') i++;
			strings++;
			break;
		case '-': case '0' ... '9':
			while (i + 1 < sizeof memory && (memory[i + 1] == '.' || memory[i + 1] == 'e' || (memory[i + 1] >= '0' && memory[i + 1] <= '9')))
				i++;
			numbers++;
		}
	}
	return strings * 1000003 + numbers * 1009 + deepest;
}

EXPORT(fib) u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

EXPORT(deep) u32 deep(u32 n) {
	volatile u32 v = n;
	return n == 0 ? 0 : deep(n - 1) + (v != 0);
}

static u32 odd(u32 n);
EXPORT(even) __attribute__((noinline)) u32 even(u32 n) { volatile u32 v = n; return v == 0 ? 1 : odd(n - 1) & 1; }
static __attribute__((noinline)) u32 odd(u32 n) { volatile u32 v = n; return v == 0 ? 0 : even(n - 1) & 1; }

EXPORT(matmul) u32 matmul(u32 n) {
	static double a[64][64], b[64][64], c[64][64];
	for (u32 i = 0; i < 64; i++)
		for (u32 j = 0; j < 64; j++) a[i][j] = i + j + n, b[i][j] = i * j % 17;
	for (u32 i = 0; i < 64; i++)
		for (u32 j = 0; j < 64; j++) {
			double sum = 0;
			for (u32 k = 0; k < 64; k++) sum += a[i][k] * b[k][j];
			c[i][j] = sum;
		}
	return (u32)(c[5][7] + c[63][63]);
}

typedef int (*less)(u32, u32);
static int ascending(u32 a, u32 b) { return a < b; }
static int descending(u32 a, u32 b) { return a > b; }
static int by_low_bits(u32 a, u32 b) { return (a & 255) < (b & 255) || ((a & 255) == (b & 255) && a < b); }

static void quicksort(u32 *p, u32 n, less f) {
	while (n > 1) {
		u32 pivot = p[n / 2], i = 0, j = n - 1;
		for (;; i++, j--) {
			while (f(p[i], pivot)) i++;
			while (f(pivot, p[j])) j--;
			if (i >= j) break;
			u32 t = p[i];
			p[i] = p[j];
			p[j] = t;
		}
		quicksort(p, i, f);
		p += i;
		n -= i;
	}
}

EXPORT(sort) u32 sort(u32 n) {
	static u32 list[1000];
	static const less orders[] = {ascending, descending, by_low_bits};
	u32 h = 0;
	for (u32 r = 0; r < n; r++) {
		for (u32 i = 0; i < 1000; i++) list[i] = (i * 2654435761u + r) >> 7;
		quicksort(list, 1000, orders[r % 3]);
		for (u32 i = 0; i < 1000; i++) h = h * 31 + list[i];
	}
	return h;
}

// Four numbers at once: a vector where the target has them.
typedef u32 four __attribute__((vector_size(16)));
EXPORT(vector) u32 vector(u32 n) {
	four v = {1, 2, 3, 4}, w = {5, 7, 11, 13};
	for (u32 i = 0; i < n; i++) v = v * w + (v >> 3) + i;
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

// Much memory at once, by memory.copy and memory.fill where the target has them.
EXPORT(bulk) u32 bulk(u32 n) {
	u32 h = 0;
	for (u32 i = 0; i < n; i++) {
		__builtin_memcpy(copy, memory, sizeof copy);
		__builtin_memset(memory, (int)i, sizeof memory / 2);
		h = h * 31 + copy[i & 65535] + memory[i & 65535];
	}
	return h;
}

EXPORT(grow) int grow(u32 pages) { return (int)__builtin_wasm_memory_grow(0, pages); }

#ifdef __wasm_tail_call__
static u32 count_b(u32 n, u32 sum);
static u32 count_a(u32 n, u32 sum) { if (n == 0) return sum; __attribute__((musttail)) return count_b(n - 1, sum * 3 + n); }
static __attribute__((noinline)) u32 count_b(u32 n, u32 sum) { if (n == 0) return sum; __attribute__((musttail)) return count_a(n - 1, sum ^ n); }
EXPORT(tail) u32 tail(u32 n) { return count_a(n, 1); }
EXPORT(mixed) u32 mixed(u32 n) { volatile u32 v = n; return v == 0 ? 0 : 1 + tail(1) - tail(1) + mixed(n - 1); }
#endif
