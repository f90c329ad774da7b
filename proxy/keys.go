package proxy

import (
	"errors"
	"math/rand/v2"
	"slices"
)

// configuredKeys are the keys that stand in the configuration.
type configuredKeys map[string][]Key

func newConfiguredKeys(providers map[string]Provider) configuredKeys {
	keys := make(configuredKeys, len(providers))
	for name, p := range providers {
		keys[name] = p.Keys
	}
	return keys
}

var errNoKeyFits = errors.New("proxy: no key fits the model")

// Key chooses among the keys that may be used for model, each as often as its weight says.
func (k configuredKeys) Key(provider, model string) (Secret, error) {
	keys := k[provider]
	switch {
	case len(keys) == 0:
		return "", nil
	case len(keys) == 1 && len(keys[0].Models) == 0:
		return keys[0].Value, nil
	}
	total := 0.0
	for i := range keys {
		total += weight(&keys[i], model)
	}
	if total == 0 {
		return "", errNoKeyFits
	}
	point := rand.Float64() * total //nolint:gosec // spreads load, guards nothing
	last := Secret("")
	for i := range keys {
		w := weight(&keys[i], model)
		if w == 0 {
			continue
		}
		last = keys[i].Value
		if point -= w; point < 0 {
			break
		}
	}
	return last, nil
}

// weight is 0 for a key that may not be used for model. An unknown model is nobody's to refuse: the
// provider does that.
func weight(k *Key, model string) float64 {
	if len(k.Models) > 0 && model != "" && !slices.Contains(k.Models, model) {
		return 0
	}
	return k.Weight
}
