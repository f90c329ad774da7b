package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/edge-proxy/edge/plugins"
)

const nameCharacters = "abcdefghijklmnopqrstuvwxyz0123456789-_." // of a plugin

// pluginFaults checks what no range tag says of plugins, and the lists that name them.
func pluginFaults(c Config) (faults []Fault) {
	byName := make(map[string]Plugin, len(c.Plugins))
	for i, p := range c.Plugins {
		at := fmt.Sprintf("plugins[%d]", i)
		faults = append(faults, p.faults(at)...)
		if _, twice := byName[p.Name]; twice && p.Name != "" {
			faults = append(faults, Fault{at + ".name", strconv.Quote(p.Name), "a name that no plugin before it has"})
			continue
		}
		byName[p.Name] = p
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(byName)), func(name string) bool { return name == "" })
	for _, provider := range slices.Sorted(maps.Keys(c.Providers)) {
		faults = append(faults, chainFaults("providers."+provider+".plugins", c.Providers[provider].Plugins, names)...)
	}
	holders := map[string]string{} // by plugin, the first route that names it
	for i, r := range c.Routes {
		at := fmt.Sprintf("routes[%d]", i)
		faults = append(faults, chainFaults(at+".plugins", r.Plugins, names)...)
		for _, name := range r.Plugins {
			if holders[name] == "" {
				holders[name] = at
			}
		}
	}
	for i, p := range c.Plugins {
		// Such an instance is held through the queue, so no number of permits bounds how many are wanted.
		if route := holders[p.Name]; route != "" && p.MaxInstances == 0 && slices.Contains(p.Phases, phaseResponse) && p.exclusive() {
			faults = append(faults, Fault{fmt.Sprintf("plugins[%d].max_instances", i), "0", "at least 1, since " + route + " names the plugin and its phases hold response"})
		}
	}
	return faults
}

// exclusive reports whether an instance serves one request at a time, as far as is known without the module.
func (p Plugin) exclusive() bool {
	if p.ABI == "auto" && len(p.Module) == 0 {
		return false
	}
	abi, err := abiOf(p)
	return err == nil && abi == plugins.HTTPWasm
}

// faults checks one plugin by itself.
func (p Plugin) faults(path string) (faults []Fault) {
	add := func(key, got, want string) { faults = append(faults, Fault{path + key, got, want}) }
	if p.Name == "" || len(p.Name) > maxNameBytes || strings.Trim(p.Name, nameCharacters) != "" {
		add(".name", strconv.Quote(p.Name), "a name of lower-case letters, digits, '-', '_' and '.', at most 64")
	}
	if len(p.Module) == 0 {
		if p.Path == "" {
			add(".path", `""`, "a .wasm file")
		} else if strings.Contains(p.Path, "://") {
			add(".path", "", "a URL is not in this version of Edge; want a file (the value is not shown)")
		}
	}
	if p.SHA256 != "" && (len(p.SHA256) != 64 || strings.Trim(p.SHA256, "0123456789abcdefABCDEF") != "") {
		add(".sha256", strconv.Quote(p.SHA256), "64 hexadecimal digits")
	}
	if _, err := parseRedisURL(p.RedisURL.Reveal()); err != nil && p.RedisURL != "" {
		add(".redis_url", "", "want redis://[user:password@]host[:port][/db], or rediss:// (the value is not shown)")
	}
	if len(p.Phases) == 0 {
		add(".phases", "none", "request, response or both")
	}
	for i, phase := range p.Phases {
		if at := fmt.Sprintf(".phases[%d]", i); phase != phaseRequest && phase != phaseResponse {
			add(at, strconv.Quote(phase), "request or response")
		} else if slices.Contains(p.Phases[:i], phase) {
			add(at, strconv.Quote(phase), "each phase once")
		}
	}
	return faults
}

// chainFaults checks a list of plugins.
func chainFaults(path string, chain, names []string) (faults []Fault) {
	for i, name := range chain {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case slices.Contains(chain[:i], name):
			faults = append(faults, Fault{at, strconv.Quote(name), "each plugin once"})
		case !slices.Contains(names, name):
			faults = append(faults, Fault{at, strconv.Quote(name), "a configured plugin" + nearest(name, names)})
		}
	}
	return faults
}
