package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/edge-proxy/edge/limiter"
	"github.com/edge-proxy/edge/proxy/upstream"
)

const maxModelList = 4 << 20 // bytes of one provider's list

// listModels answers GET /v1/models with what all providers list that the caller may use, as far as it may ask for it, each
// id behind its provider's name when there are several. Left out
// are providers that have no such list, cannot admit at once or do not answer within queue_timeout. The caller's
// own credentials go to none of them: they are meant for one, and nobody says for which.
//
// It starts a goroutine for each provider and waits for them all.
func (x *exchange) listModels() error {
	ctx, cancel := context.WithTimeout(x.ctx, x.gen.config.QueueTimeout)
	defer cancel()
	names := x.names()
	lists := make([][]map[string]json.RawMessage, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		key, err := x.gen.keys.Key(name, "") // here: a panic of a KeySource's must not end the process
		if err == nil {
			all.Go(func() { lists[i] = x.modelsOf(ctx, x.gen.endpoints[name], key) })
		}
	}
	all.Wait()
	var list struct {
		Object string                       `json:"object"`
		Data   []map[string]json.RawMessage `json:"data"`
	}
	list.Object, list.Data = "list", slices.Concat(lists...)
	if list.Data == nil {
		list.Data = []map[string]json.RawMessage{} // [] and not null
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	x.localAnswer(http.StatusOK, upstream.Fields{
		{Name: "Content-Type", Value: "application/json"}, {Name: "Content-Length", Value: strconv.Itoa(len(body))},
	}, body)
	return nil
}

// never has ended: with it, Place.Acquire takes a permit that is free and does not wait for one.
var never = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// modelsOf returns one provider's list, or nil.
func (x *exchange) modelsOf(ctx context.Context, end *endpoint, key Secret) []map[string]json.RawMessage {
	if end.manners.ModelList == "" {
		return nil
	}
	asks := x.caller.request()
	if end.shares != nil {
		if !end.shares.Take(asks, room(&x.gen.config, &end.config), time.Since(processStart)) {
			return nil
		}
		defer end.shares.Give(asks)
	}
	place, ok := end.gate.TryEnter(asks)
	if !ok {
		return nil
	}
	permit, err := place.Acquire(never)
	if err != nil {
		return nil
	}
	defer permit.Done(limiter.Sample{})
	q := upstream.Request{Method: http.MethodGet, Target: end.manners.ModelList}
	q.Fields.Add("Accept", "application/json")
	q.Fields.Add("Via", x.p.via)
	if end.manners.VersionHeader != "" {
		q.Fields.Add(end.manners.VersionHeader, end.manners.Version)
	}
	for _, field := range end.extra {
		q.Fields.Set(field.Name, field.Value)
	}
	end.putKey(&q, key)
	var a upstream.Response
	if err := end.do(ctx, &q, &a); err != nil {
		return nil
	}
	defer a.Body.Close()
	if a.Upgraded != nil {
		a.Upgraded.Close()
	}
	body, err := io.ReadAll(io.LimitReader(a.Body, maxModelList+1))
	if err != nil || a.Status != http.StatusOK || len(body) > maxModelList {
		return nil
	}
	models, err := x.listed(body, end.name)
	if err != nil {
		return nil
	}
	return models
}

var errNoModelList = errors.New("proxy: not a list of models")

// listed returns what of a provider's OpenAI-like list the caller may ask for. Where there are several providers it puts
// the provider's name before each id, and leaves the rest as it is.
func (x *exchange) listed(list []byte, provider string) ([]map[string]json.RawMessage, error) {
	var shape struct {
		Data []map[string]json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(list, &shape); err != nil {
		return nil, err
	}
	own := shape.Data[:0]
	for _, model := range shape.Data {
		var id string
		if err := json.Unmarshal(model["id"], &id); err != nil || id == "" {
			return nil, errNoModelList
		}
		if x.caller.mayAsk(provider, id) != nil {
			continue
		}
		if len(x.names()) > 1 {
			named, err := json.Marshal(provider + "/" + id)
			if err != nil {
				return nil, err
			}
			model["id"] = named
		}
		own = append(own, model)
	}
	return own, nil
}
