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

// Key chooses among the keys that may be used for model, each as often as its weight says. When all of them
// weigh 0 they share evenly.
func (k configuredKeys) Key(provider, model string) (Secret, error) {
	keys := k[provider]
	switch {
	case len(keys) == 0:
		return "", nil
	case len(keys) == 1 && len(keys[0].Models) == 0:
		return keys[0].Value, nil
	}
	total, fitting := 0.0, 0
	for i := range keys {
		if fits(&keys[i], model) {
			total, fitting = total+keys[i].Weight, fitting+1
		}
	}
	if fitting == 0 {
		return "", errNoKeyFits
	}
	even := 0.0
	if total == 0 { // nobody gave weights
		even, total = 1, float64(fitting)
	}
	point := rand.Float64() * total
	last := Secret("")
	for i := range keys {
		w := keys[i].Weight + even
		if w == 0 || !fits(&keys[i], model) {
			continue
		}
		last = keys[i].Value
		if point -= w; point < 0 {
			break
		}
	}
	return last, nil
}

// fits reports whether a key may be used for model. An unknown model is the provider's to refuse.
func fits(k *Key, model string) bool {
	return len(k.Models) == 0 || model == "" || slices.Contains(k.Models, model)
}
