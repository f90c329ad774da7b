package demo

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// style is how a provider speaks of its limits. Any of its functions may be nil.
type style struct {
	// announce says what is left, in the head of every answer.
	announce func(h http.Header, v *verdict)

	// retry says when to come back, in the head of a refusal.
	retry func(h http.Header, wait time.Duration)

	// body appends a refusal in the provider's own shape; nil means that of the caller's API.
	body func(dst []byte, e *apiError) []byte
}

// styles are those of Config.Announce. What they are made after:
//
//	openai      https://platform.openai.com/docs/guides/rate-limits
//	anthropic   https://docs.claude.com/en/api/rate-limits
//	azure       https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota
//	groq        https://console.groq.com/docs/rate-limits
//	gemini      https://ai.google.dev/gemini-api/docs/rate-limits
//	openrouter  https://openrouter.ai/docs/api-reference/limits
//	ietf        https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ from 08 on; ietf-old: up to 06
//	github      https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
var styles = map[string]*style{
	"openai":          {announce: likeOpenAI, retry: retrySecondsAndMillis},
	"anthropic":       {announce: likeAnthropic, retry: retrySeconds},
	"azure":           {announce: likeAzure, retry: retryAzure},
	"groq":            {announce: likeOpenAI, retry: retrySeconds},
	"mistral":         {announce: likeMistral, body: mistralBody},
	"mistral-old":     {announce: likeOldMistral, body: mistralBody},
	"gemini":          {body: geminiBody},
	"openrouter":      {announce: likeOpenRouter, body: openRouterBody},
	"openrouter-free": {body: openRouterBody},
	"ietf":            {announce: likeIETF, retry: retrySeconds},
	"ietf-old":        {announce: likeOldIETF, retry: retrySeconds},
	"github":          {announce: likeGitHub},
	"none":            {},
}

// styleNames are the keys of styles, sorted.
var styleNames = strings.Join(slices.Sorted(maps.Keys(styles)), ", ")

// style is how x speaks of limits: as it was told to, else as the API that the caller speaks.
func (x *exchange) style() *style {
	if s := styles[x.settings.announce]; s != nil {
		return s
	}
	if x.anthropic {
		return styles["anthropic"]
	}
	return styles["openai"]
}

func retrySeconds(h http.Header, wait time.Duration) {
	h.Set("Retry-After", decimal(roundUp(wait, time.Second)))
}

func retrySecondsAndMillis(h http.Header, wait time.Duration) {
	retrySeconds(h, wait)
	h.Set("Retry-After-Ms", decimal(roundUp(wait, time.Millisecond)))
}

func retryAzure(h http.Header, wait time.Duration) {
	retrySecondsAndMillis(h, wait)
	h.Set("X-Ms-Retry-After-Ms", h.Get("Retry-After-Ms"))
}

func likeOpenAI(h http.Header, v *verdict) {
	for _, name := range []string{"requests", "tokens"} {
		if l := v.announced(name); l != nil {
			h.Set("X-Ratelimit-Limit-"+name, decimal(l.limit))
			h.Set("X-Ratelimit-Remaining-"+name, decimal(l.remaining()))
			h.Set("X-Ratelimit-Reset-"+name, wholeMillis(l.reset()).String())
		}
	}
}

func likeAnthropic(h http.Header, v *verdict) {
	for _, name := range []string{"requests", "tokens", "input-tokens", "output-tokens"} {
		if l := v.announced(name); l != nil {
			prefix := "Anthropic-Ratelimit-" + name
			h.Set(prefix+"-Limit", decimal(l.limit))
			h.Set(prefix+"-Remaining", decimal(l.remaining()))
			// Seconds are all that the format holds; up, so that the moment named is not too early.
			reset := v.now.Add(l.reset() + time.Second - 1).Truncate(time.Second)
			h.Set(prefix+"-Reset", reset.UTC().Format(time.RFC3339))
		}
	}
}

func likeAzure(h http.Header, v *verdict) {
	for _, name := range []string{"requests", "tokens"} {
		if l := v.announced(name); l != nil {
			h.Set("X-Ratelimit-Remaining-"+name, decimal(l.remaining()))
		}
	}
}

func likeMistral(h http.Header, v *verdict) {
	for name, ours := range map[string]string{"requests": "req-minute", "tokens": "tokens-minute"} {
		if l := v.announced(name); l != nil {
			h.Set("X-Ratelimit-Limit-"+ours, decimal(l.limit))
			h.Set("X-Ratelimit-Remaining-"+ours, decimal(l.remaining()))
			if name == "tokens" {
				h.Set("X-Ratelimit-Tokens-Query-Cost", decimal(l.cost))
			}
		}
	}
}

func likeOldMistral(h http.Header, v *verdict) {
	if l := v.announced("tokens"); l != nil {
		h.Set("Ratelimitbysize-Limit", decimal(l.limit))
		h.Set("Ratelimitbysize-Remaining", decimal(l.remaining()))
		h.Set("Ratelimitbysize-Reset", decimal(roundUp(l.reset(), time.Second)))
		h.Set("Ratelimitbysize-Query-Cost", decimal(l.cost))
		h.Set("X-Ratelimitbysize-Limit-Minute", decimal(l.limit))
		h.Set("X-Ratelimitbysize-Remaining-Minute", decimal(l.remaining()))
	}
}

func mistralBody(b []byte, e *apiError) []byte {
	b = appendString(append(b, `{"object":"error","message":`...), e.message)
	return append(b, `,"type":"rate_limited","param":null,"code":"1300"}`...)
}

// geminiBody is google.rpc.Status. As from Gemini itself, the RetryInfo of a spent day speaks of a minute at most;
// that the day is spent is in the QuotaFailure alone.
func geminiBody(b []byte, e *apiError) []byte {
	l := e.verdict.refused
	what, metric := "Requests", "generate_content_free_tier_requests"
	if l.name != "requests" {
		what, metric = "InputTokens", "generate_content_free_tier_input_token_count"
	}
	per := "Minute"
	if l.window >= day {
		per = "Day"
	}
	b = appendString(append(b, `{"error":{"code":429,"message":`...), "You exceeded your current quota. "+e.message)
	b = append(b, `,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[`...)
	b = fmt.Appendf(b, `{"quotaMetric":"generativelanguage.googleapis.com/%s","quotaId":"Generate%sPer%sPerProjectPerModel-FreeTier","quotaValue":"%d"}]}`,
		metric, what, per, l.limit)
	if !e.final {
		wait := strconv.FormatFloat(wholeMillis(min(e.retryAfter, time.Minute)).Seconds(), 'f', -1, 64)
		b = fmt.Appendf(b, `,{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"%ss"}`, wait)
	}
	return append(b, "]}}"...)
}

func likeOpenRouter(h http.Header, v *verdict) {
	if l := v.announced("requests"); l != nil {
		h.Set("X-Ratelimit-Limit", decimal(l.limit))
		h.Set("X-Ratelimit-Remaining", decimal(l.remaining()))
		h.Set("X-Ratelimit-Reset", decimal(epoch(v.now.Add(l.reset()), time.Millisecond)))
	}
}

// openRouterBody has the limit's headers inside the error.
func openRouterBody(b []byte, e *apiError) []byte {
	l, now := e.verdict.refused, e.verdict.now
	b = appendString(append(b, `{"error":{"message":`...), e.message)
	return fmt.Appendf(b, `,"code":429,"metadata":{"headers":{"X-RateLimit-Limit":"%d","X-RateLimit-Remaining":"%d","X-RateLimit-Reset":"%d"},"provider_name":null}},"user_id":"user_demo"}`,
		l.limit, l.remaining(), epoch(now.Add(l.reset()), time.Millisecond))
}

// likeIETF has one item for each limit.
func likeIETF(h http.Header, v *verdict) {
	var left, policy []string
	for i := range v.levels {
		if l := &v.levels[i]; !l.hidden {
			seconds := roundUp(l.window, time.Second)
			name := fmt.Sprintf("%q", fmt.Sprintf("%s-%ds", l.name, seconds))
			left = append(left, fmt.Sprintf("%s;r=%d;t=%d", name, l.remaining(), roundUp(l.reset(), time.Second)))
			policy = append(policy, fmt.Sprintf("%s;q=%d;w=%d", name, l.limit, seconds))
		}
	}
	h.Set("Ratelimit", strings.Join(left, ", "))
	h.Set("Ratelimit-Policy", strings.Join(policy, ", "))
}

func likeOldIETF(h http.Header, v *verdict) {
	if l := v.announced("requests"); l != nil {
		h.Set("Ratelimit-Limit", decimal(l.limit))
		h.Set("Ratelimit-Remaining", decimal(l.remaining()))
		h.Set("Ratelimit-Reset", decimal(roundUp(l.reset(), time.Second)))
		h.Set("Ratelimit-Policy", fmt.Sprintf("%d;w=%d", l.limit, roundUp(l.window, time.Second)))
	}
}

func likeGitHub(h http.Header, v *verdict) {
	if l := v.announced("requests"); l != nil {
		h.Set("X-Ratelimit-Limit", decimal(l.limit))
		h.Set("X-Ratelimit-Remaining", decimal(l.remaining()))
		h.Set("X-Ratelimit-Used", decimal(l.limit-l.remaining()))
		h.Set("X-Ratelimit-Reset", decimal(epoch(v.now.Add(l.reset()), time.Second)))
		h.Set("X-Ratelimit-Resource", "core")
	}
}

// epoch is the time since 1970 in units, rounded up.
func epoch(t time.Time, unit time.Duration) int64 { return roundUp(time.Duration(t.UnixNano()), unit) }

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
