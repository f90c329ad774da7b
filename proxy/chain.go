package proxy

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/edge-proxy/edge/plugins"
	"github.com/edge-proxy/edge/plugins/httpwasm"
	"github.com/edge-proxy/edge/plugins/proxywasm"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// visit is one plugin's part in an exchange.
type visit struct {
	plugin *loadedPlugin
	inner  bool // the plugin is the provider's and sees query; a route's sees draft.fields

	// Of an http-wasm plugin.
	call httpwasm.Call
	read [2]int64 // bytes of the request's and of the answer's content that the guest has read in this phase
	keep bool     // the guest wants the request's content again when it sees the answer

	// Of a Proxy-Wasm plugin.
	stream *proxywasm.Stream // nil when the plugin has no callbacks for streams
	begun  bool              // it has taken content that cannot be had again
}

// draft is what plugins have made of a request and its answer so far. The zero value means that they did nothing.
type draft struct {
	visits   []visit // of the plugins that have seen the request, in order
	visiting int     // the visit whose guest runs
	phase    string  // of that guest

	method  string           // "": the caller's
	uri     string           // "": the caller's
	fields  upstream.Fields  // the request's head as route plugins see it; empty without such
	sent    upstream.Fields  // the request's head as provider plugins see it once the key is in
	trailer upstream.Fields  // of the request
	content *body            // of the request, in place of the caller's
	piped   []*requestFilter // that content passes on its way

	status    int             // of the answer, set before there was one; 0: not set
	preset    upstream.Fields // so too
	trailing  upstream.Fields // the answer's trailer, as plugins left it
	prefix    *body           // content of the answer that a plugin wrote before there was one
	result    *body           // the answer's content, held for a plugin
	wrote     bool            // a plugin replaced it
	trailed   bool            // trailer was filled in
	holding   bool            // result is the answer's content
	answering bool            // there is an answer, or an error in its place
	answered  bool            // no provider is asked: a plugin has answered
	keyed     bool            // query has the provider's key: plugins see sent instead
	broken    error           // why the exchange is to break off without an answer; nil: it is not
	failure   error           // what Edge answers with, in place of a provider
}

// routePlugins runs the request phase of the plugins of the route, before anything is waited for.
func (x *exchange) routePlugins() error {
	if len(x.plugins) == 0 {
		return nil
	}
	d := &x.draft
	d.fields = append(d.fields[:0], upstream.Field{Name: "Host", Value: x.r.Host}).AppendHeader(x.r.Header)
	if err := x.meetAll(x.plugins, false); err != nil || d.answered {
		return err
	}
	if d.uri != "" {
		x.target = x.route.targetOf(d.uri)
	}
	x.sized(d.fields)
	return nil
}

// sized lets content that filters may change have the length it had, if plugins have left that in the head.
func (x *exchange) sized(head upstream.Fields) {
	if b := x.draft.content; b != nil && !head.Has("Content-Length") {
		b.declared = -1
	}
}

// providerPlugins runs the request phase of the provider's plugins on the request that compose has made.
func (x *exchange) providerPlugins() error {
	if len(x.end.plugins) == 0 {
		return nil
	}
	q := &x.query
	q.Fields = slices.Insert(q.Fields, 0, upstream.Field{Name: "Host", Value: x.use.host})
	if length := x.declaredLength(); length >= 0 && x.content() != nil {
		q.Fields = append(q.Fields, upstream.Field{Name: "Content-Length", Value: x.lengthText(length)})
	}
	if err := x.meetAll(x.end.plugins, true); err != nil || x.draft.answered {
		return err
	}
	if host := q.Fields.Get("Host"); host != x.use.host {
		q.Host = host
	}
	x.sized(q.Fields)
	kept := q.Fields[:0]
	for _, field := range q.Fields { // what frames the message is not a plugin's to say
		if !hopByHop(field.Name) && field.Name != "Content-Length" && field.Name != "Host" {
			kept = append(kept, field)
		}
	}
	q.Fields = kept
	x.draft.sent = append(x.draft.sent[:0], kept...)
	return nil
}

// lengthText is a length in digits: the caller's own where it said that, which saves an allocation.
func (x *exchange) lengthText(length int64) string {
	if own := x.r.Header["Content-Length"]; len(own) == 1 && x.r.ContentLength == length {
		return own[0]
	}
	return strconv.FormatInt(length, 10)
}

// meetAll shows the request to plugins, one after the other, until one has answered it.
func (x *exchange) meetAll(all []*loadedPlugin, inner bool) error {
	for _, plugin := range all {
		if err := x.meet(plugin, inner); err != nil {
			return err
		}
		if x.draft.answered {
			return nil
		}
	}
	return nil
}

// meet shows the request to one plugin.
func (x *exchange) meet(plugin *loadedPlugin, inner bool) error {
	d := &x.draft
	if cap(d.visits) == 0 {
		d.visits = make([]visit, 0, keptVisits)
	}
	d.visits = append(d.visits, visit{plugin: plugin, inner: inner})
	d.visiting, d.phase = len(d.visits)-1, phaseRequest
	v := &d.visits[d.visiting]
	if plugin.filter == nil && !plugin.requests { // it waits for the answer
		_, err := v.call.Request(x.ctx, plugin.guest, (*guest)(x))
		return err
	}
	var before *mark
	if plugin.config.OnError == onErrorSkip {
		before = x.mark()
	}
	err := x.show(v)
	if err != nil {
		return x.without(v, before, err)
	}
	before.drop()
	return nil
}

// took counts what the guest took of a phase: 0 is the request's, 1 the answer's.
func (v *visit) took(phase int, began time.Time) {
	v.plugin.stats.duration[phase].Update(time.Since(began).Seconds())
}

// show runs the request phase of a visit.
func (x *exchange) show(v *visit) error {
	if v.plugin.filter != nil {
		return x.meetFilter(v)
	}
	if err := x.instance(v); err != nil {
		return err
	}
	began := time.Now()
	next, err := v.call.Request(x.ctx, v.plugin.guest, (*guest)(x))
	v.took(0, began)
	if err == nil && v.keep {
		err = x.holdFor(v)
	}
	x.draft.answered = err == nil && !next
	return err
}

// instance takes an instance for v, waiting for one no longer than a request may wait in a queue.
func (x *exchange) instance(v *visit) error {
	if v.call.TryTake(v.plugin.guest) {
		return nil
	}
	if err := x.watch(deadlineQueue, x.gen.config.QueueTimeout); err != nil {
		return err
	}
	err := v.call.Take(x.ctx, v.plugin.guest)
	late := x.unwatch()
	if err != nil || late != nil {
		if late != nil && !errors.Is(late, errQueueTimeout) {
			return late // the caller has left, or the proxy ends
		}
		return worded(errPluginBusy, "no instance of the plugin %s was free in time", v.plugin.config.Name)
	}
	return nil
}

// without ends v, the last visit, because of err: with an error that says what the caller is told or, when the
// plugin may be skipped, with the request as it was before.
func (x *exchange) without(v *visit, before *mark, err error) error {
	v.release()
	told, ours := x.pluginFailure(v.plugin, phaseRequest, err)
	begun := v.begun
	x.draft.visits = x.draft.visits[:len(x.draft.visits)-1]
	if !ours || before == nil || begun || x.ctx.Err() != nil { // an exchange that has ended cannot go on without it
		before.drop()
		return told
	}
	x.restore(before)
	return nil
}

// pluginFailure logs and counts a failed call. It returns what the caller is told, and whether the plugin is to
// blame: an upload that broke off or a caller that has left is nothing that could be skipped.
func (x *exchange) pluginFailure(plugin *loadedPlugin, phase string, err error) (told error, ours bool) {
	reason, function := "busy", ""
	var trap *plugins.TrapError
	switch {
	case errors.Is(err, proxywasm.ErrPauseTimeout):
		reason, told = "timeout", errPlugin
	case errors.Is(err, proxywasm.ErrBodyTooLarge) && phase == phaseRequest:
		reason, told = "body_too_large", errPluginBody
	case errors.Is(err, proxywasm.ErrBodyTooLarge):
		reason, told = "body_too_large", errPluginAnswer
	case errors.Is(err, errPluginReset):
		return err, false // the guest's own wish
	case errors.As(err, &trap):
		reason, function = string(trap.Reason), trap.Function
		told = errPlugin
	case errors.Is(err, errPluginBusy):
		told = err
	case errors.Is(err, errPluginBody), errors.Is(err, errPluginAnswer):
		reason, told = "body_too_large", err
	default:
		return x.reading(err), false
	}
	plugin.stats.fail(reason)
	if last := plugin.warned.Load(); now()-last > uint64(warnEvery/time.Microsecond) && plugin.warned.CompareAndSwap(last, now()) {
		x.p.log.LogAttrs(context.Background(), slog.LevelWarn, "plugin failed", slog.String(keyPlugin, plugin.config.Name),
			slog.String(keyPhase, phase), slog.String(keyFunction, function), slog.String(keyReason, reason),
			slog.String(keyRequest, x.id), slog.String(keyError, err.Error()))
	}
	return told, true
}

// holdFor holds the whole content of the request for a plugin that will read it again.
func (x *exchange) holdFor(v *visit) error {
	b := x.content()
	if b == nil {
		return nil
	}
	limit := int64(v.plugin.config.MaxBody)
	if err := x.receive(b, limit+1, nil); err != nil {
		return err
	}
	if b.size > limit {
		return x.tooLargeFor(v)
	}
	return nil
}

func (x *exchange) tooLargeFor(v *visit) error {
	return worded(errPluginBody, "the request body is larger than the plugin %s takes (max_body_mb)", v.plugin.config.Name)
}

// content is what goes upstream: what a plugin wrote, else the caller's. Nil means none.
func (x *exchange) content() *body {
	if x.draft.content != nil {
		return x.draft.content
	}
	return x.body.Load()
}

// header is the first value of a field of the request, as route plugins left it.
func (x *exchange) header(name string) string {
	if len(x.draft.fields) > 0 {
		return x.draft.fields.Get(name)
	}
	return x.r.Header.Get(name)
}

// pluginsBack takes the answer through the plugins, the last first: those that hold it change it, others see its head now
// and its content as it passes.
func (x *exchange) pluginsBack() {
	d := &x.draft
	if len(d.visits) == 0 {
		return
	}
	d.answering = true
	x.join()
	for i := len(d.visits) - 1; i >= 0 && d.broken == nil; i-- {
		switch v := &d.visits[i]; {
		case v.plugin.filter != nil:
			x.filterBack(v)
		case v.call.WantsResponse() && v.call.BuffersResponse() && x.answer.Upgraded == nil: // behind a 101 nothing can be held
			if x.holdBack(v); d.broken == nil {
				x.respond(i)
			}
		}
	}
	x.settle()
}

// holdBack holds the answer for a plugin that wants to change it.
func (x *exchange) holdBack(v *visit) {
	limit := int64(v.plugin.config.MaxBody)
	var err error
	if !x.draft.holding {
		err = x.collect(limit)
	} else if x.draft.result.size > limit {
		err = worded(errPluginAnswer, "the answer is larger than the plugin %s takes (max_body_mb)", v.plugin.config.Name)
	}
	if err == nil {
		return
	}
	if gone(err) {
		x.draft.broken = err
		return
	}
	if errors.Is(err, errPluginAnswer) {
		_, _ = x.pluginFailure(v.plugin, phaseResponse, err) // logged and counted; the caller is told below
	}
	x.failedWith(err)
	if !x.draft.holding && x.collect(maxErrorBytes) != nil {
		x.draft.holding = false
	}
}

// filterBack shows the answer to a Proxy-Wasm plugin.
func (x *exchange) filterBack(v *visit) {
	if v.stream == nil || !v.plugin.answers {
		return
	}
	x.settle()
	var before *mark
	if v.plugin.config.OnError == onErrorSkip {
		before = x.mark()
	}
	err := x.answerFilter(v)
	if err == nil {
		before.drop()
		return
	}
	if v.begun {
		before.drop()
		before = nil
	}
	x.withoutResponse(v, before, err)
}

// pluginsAfter tells the plugins that did not hold the answer of its end, the last first.
func (x *exchange) pluginsAfter(err error) {
	d := &x.draft
	if err != nil && d.failure == nil {
		d.failure = err
	}
	for i := len(d.visits) - 1; i >= 0; i-- {
		if v := &d.visits[i]; v.plugin.filter == nil && v.call.WantsResponse() {
			x.respond(i)
		}
	}
}

// respond runs the response phase of a visit. A failure becomes the answer, if that can still be changed.
func (x *exchange) respond(i int) {
	d := &x.draft
	v := &d.visits[i]
	d.visiting, d.phase, v.read = i, phaseResponse, [2]int64{}
	var before *mark
	if v.plugin.config.OnError == onErrorSkip && !x.committed {
		before = x.mark()
	}
	if err := x.instance(v); err != nil {
		x.withoutResponse(v, before, err)
		return
	}
	began := time.Now()
	err := v.call.Response(x.ctx, (*guest)(x), d.failure != nil)
	v.took(1, began)
	if err != nil {
		x.withoutResponse(v, before, err)
		return
	}
	before.drop()
}

// withoutResponse ends a visit whose response phase failed: with an error as the answer or, when the plugin may be
// skipped, with the answer as it was before.
func (x *exchange) withoutResponse(v *visit, before *mark, err error) {
	v.release()
	told, ours := x.pluginFailure(v.plugin, phaseResponse, err)
	if ours && before != nil && x.ctx.Err() == nil {
		x.restore(before)
		return
	}
	before.drop()
	switch {
	case errors.Is(err, errPluginReset) || gone(told):
		x.draft.broken = told
	case !x.committed:
		x.failedWith(told)
	}
}

// releaseVisits gives back the instances of visits whose response phase never came.
func (x *exchange) releaseVisits() {
	for i := range x.draft.visits {
		x.draft.visits[i].release()
	}
}

// release ends the visit.
func (v *visit) release() {
	if v.plugin.filter == nil {
		v.call.Release()
	} else if v.stream != nil {
		v.stream.Close()
	}
}
