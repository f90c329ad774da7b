package main

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/edge-proxy/edge/configs"
	"github.com/edge-proxy/edge/proxy"
)

// sources is everything that the configuration is made from, already read.
type sources struct {
	file    *text // nil without one
	partial bool  // there is a file, but it could not be read
	environ map[string]string
	secrets map[string]string // by *_FILE variable, what its file holds
	flags   flags
	example func(name string) (module []byte, ok bool) // the embedded examples; nil without any
}

// provenance tells where the values come from, and what is to be said of them.
type provenance struct {
	origins  map[string]origin // by path
	warnings []string          // for the log at warn, or stderr
	notes    []string          // for the log at debug
}

// of returns where the value at path comes from; for what nothing sets by itself, where the thing it is part of does.
func (p provenance) of(path string) origin {
	for path != "" {
		if from, ok := p.origins[path]; ok {
			return from
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return origin{}
}

// locate says of each fault where the value comes from.
func (p provenance) locate(wrong []proxy.Fault) (faults []fault) {
	for _, f := range wrong {
		from := p.of(f.Path)
		if from.via != "" && f.Got != "" {
			f.Got, f.Want = "", "want "+f.Want+" (the value of "+from.via+" is not shown)"
		}
		if text, err := strconv.Unquote(f.Got); err == nil {
			f.Got = quoted(text) // no longer than other values
		}
		faults = append(faults, fault{from, from.written(f.Path), f.Got, f.Want})
	}
	return faults
}

// demoProvider is the provider that -demo adds. Its base URL is known only when it listens; until then it is this.
const (
	demoProvider = "demo"
	demoBaseURL  = "http://127.0.0.1"

	demoPluginsPath = "providers." + demoProvider + ".plugins"

	demoConcurrency = 2 // so that a handful of requests makes a queue to look at
)

// load makes the configuration: defaults < profile < file < EDGE_CONFIG_JSON < variables < flags. It reads nothing but
// src. All faults are returned at once; with none, the document is valid. A document without providers is no fault
// here: see waysToBegin.
func load(src sources) (document, provenance, []fault) {
	var faults []fault
	var settings []setting
	var ignored []string
	referred, whole := map[string]bool{}, !src.partial
	for _, doc := range src.documents() {
		r, ok := read(doc, src.environ)
		whole = whole && ok
		settings = append(settings, r.settings...)
		faults = append(faults, r.faults...)
		ignored = append(ignored, r.ignored...)
		for _, name := range r.referred {
			referred[name] = true
		}
	}
	names, same := providerNames(settings)
	faults = append(faults, same...)
	vars := variables{environ: src.environ, names: names, referred: referred, whole: whole}
	vars.scan()
	settings = append(settings, vars.settings(src.secrets)...)
	faults = append(faults, vars.faults...)
	settings = append(settings, src.flags.settings()...)
	settings = append(profileSettings(settings), settings...)

	d := &draft{doc: defaultDocument(), origins: map[string]origin{}}
	faults = append(faults, d.putAll(settings)...)
	faults = append(faults, d.usualVariables(src.environ, src.flags.demo)...)
	d.demo(src)
	d.complete()
	if whole { // what a document that cannot be read would have said is not missing
		faults = d.judge(faults)
	}
	prov := provenance{origins: d.origins}
	prov.warnings = slices.DeleteFunc([]string{ignoredWarning(ignored), d.idleWarning()}, func(s string) bool { return s == "" })
	if len(vars.links) > 0 {
		prov.notes = []string{"skipped, since they are service links of Kubernetes: " + strings.Join(vars.links, ", ")}
	}
	return d.doc, prov, sortFaults(faults)
}

// documents returns the JSON documents, the weaker first.
func (src sources) documents() (docs []*text) {
	if src.file != nil {
		file := *src.file // parse notes its lines in it
		docs = append(docs, &file)
	}
	if inline := src.environ[inlineVariable]; inline != "" {
		docs = append(docs, &text{rank: fromInline, name: inlineVariable, data: []byte(inline)})
	}
	return docs
}

// providerNames returns the providers that the documents name. Two whose variables would be the same are a fault.
func providerNames(settings []setting) (names []string, faults []fault) {
	forms := map[string]string{}
	for _, s := range settings {
		if len(s.path) != 2 || s.path[0] != "providers" || slices.Contains(names, s.path[1]) {
			continue
		}
		name := s.path[1]
		names = append(names, name)
		if first, ok := forms[variableForm(name)]; ok {
			faults = append(faults, fault{
				from: s.from, path: join(s.path), got: quoted(name),
				want: "a name whose variables differ from those of " + quoted(first) + "; both are EDGE_PROVIDERS_" + variableForm(name) + "_...",
			})
			continue
		}
		forms[variableForm(name)] = name
	}
	return names, faults
}

// profileSettings returns what the profile that the settings choose says; an unknown one is a fault elsewhere.
func profileSettings(settings []setting) []setting {
	name := defaultDocument().Profile
	for _, s := range settings {
		if len(s.path) == 1 && s.path[0] == "profile" {
			name = s.value.String()
		}
	}
	data, ok := configs.Profile(name)
	if !ok {
		return nil
	}
	r, _ := read(&text{rank: fromProfile, name: name, data: data}, nil)
	return r.settings
}

// draft is the document while it is being made.
type draft struct {
	doc     document
	origins map[string]origin
}

// putAll puts the settings into the document. Those of providers come last, since a provider starts from
// provider_defaults as all sources together leave them.
func (d *draft) putAll(settings []setting) (faults []fault) {
	ofProvider := func(s setting) bool { return s.path[0] == "providers" }
	for _, late := range []bool{false, true} {
		for _, s := range settings {
			if ofProvider(s) != late || d.put(reflect.ValueOf(&d.doc).Elem(), rootShape, s, 0) {
				continue
			}
			faults = append(faults, fault{from: s.from, path: join(s.path), want: "leaves a gap; the elements before it are not set"})
		}
	}
	return faults
}

// put sets what s.path[depth:] leads to from v. It returns false for a list's element that is not the next one.
func (d *draft) put(v reflect.Value, sh *shape, s setting, depth int) bool {
	if depth == len(s.path) {
		d.assign(v, sh, s)
		return true
	}
	segment := s.path[depth]
	switch sh.kind {
	case objectShape:
		m := sh.member(segment)
		if m.index != nil {
			v = v.FieldByIndex(m.index)
		}
		return d.put(v, m.shape, s, depth+1)
	case listShape:
		i := elementIndex(segment)
		if i > v.Len() {
			return false
		}
		if i == v.Len() {
			v.Set(reflect.Append(v, d.fresh(v.Type().Elem(), s, depth)))
		}
		return d.put(v.Index(i), sh.elem, s, depth+1)
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	elem := reflect.New(v.Type().Elem()).Elem() // a map's element cannot be set in place
	if old := v.MapIndex(reflect.ValueOf(segment)); old.IsValid() {
		elem.Set(old)
	} else {
		elem.Set(d.fresh(elem.Type(), s, depth))
	}
	ok := d.put(elem, sh.elem, s, depth+1)
	v.SetMapIndex(reflect.ValueOf(segment), elem)
	return ok
}

// assign sets v, which is all that s is about, and notes where it comes from.
func (d *draft) assign(v reflect.Value, sh *shape, s setting) {
	path := join(s.path)
	switch {
	case sh.kind == listShape:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		d.forget(path)
	case !s.value.IsValid():
	case sh.kind == dictShape: // a variable adds headers to those of weaker sources
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		for _, key := range s.value.MapKeys() {
			v.SetMapIndex(key, s.value.MapIndex(key))
			d.origins[path+"."+key.String()] = s.from
		}
	default:
		v.Set(s.value)
		d.forget(path)
	}
	d.origins[path] = s.from
	for i, from := range s.parts {
		d.origins[path+element(i)] = from
	}
}

// forget drops the origins of a list's elements.
func (d *draft) forget(path string) {
	maps.DeleteFunc(d.origins, func(other string, _ origin) bool { return strings.HasPrefix(other, path+"[") })
}

// fresh returns what a new element starts from, and notes that s made it.
func (d *draft) fresh(t reflect.Type, s setting, depth int) reflect.Value {
	path := join(s.path[:depth+1])
	d.origins[path] = s.from
	switch t {
	case providerType:
		for other, from := range maps.Clone(d.origins) {
			if inherited, ok := strings.CutPrefix(other, "provider_defaults."); ok {
				d.origins[path+"."+inherited] = from
			}
		}
		return reflect.ValueOf(d.doc.ProviderDefaults.Clone())
	case keyType:
		return reflect.ValueOf(proxy.DefaultKey())
	case pluginType:
		return reflect.ValueOf(proxy.DefaultPlugin())
	}
	return reflect.Zero(t)
}

// usualVariables gives known providers without keys the variable that usually holds theirs; with no provider at all,
// each one whose variable is set is on.
func (d *draft) usualVariables(environ map[string]string, demo bool) (faults []fault) {
	none := len(d.doc.Providers) == 0 && !demo
	for _, name := range proxy.KnownNames() {
		known, _ := proxy.Known(name)
		value, set := environ[known.KeyVariable]
		p, configured := d.doc.Providers[name]
		if known.KeyVariable == "" || !set || len(p.Keys) > 0 || !configured && (!none || value == "" || known.BaseURL == "") {
			continue
		}
		from := origin{rank: fromVariable, name: known.KeyVariable}
		path := []string{"providers", name, "keys", element(0), "value"}
		if value == "" {
			faults = append(faults, fault{from: from, path: join(path), want: "is empty; unset it, or give it a value"})
			continue
		}
		d.put(reflect.ValueOf(&d.doc).Elem(), rootShape, setting{path: path, value: reflect.ValueOf(proxy.Secret(value)), from: from}, 0)
	}
	return faults
}

// demo adds the demo provider, as far as nothing else is configured of it.
func (d *draft) demo(src sources) {
	if !src.flags.demo {
		return
	}
	set := func(value any, path ...string) {
		path = append([]string{"providers", demoProvider}, path...)
		if d.origins[join(path)].rank > fromProfile { // somebody has said otherwise
			return
		}
		d.put(reflect.ValueOf(&d.doc).Elem(), rootShape, setting{path: path, value: reflect.ValueOf(value), from: origin{rank: fromFlag, name: "-demo"}}, 0)
	}
	set(demoBaseURL, "network_config", "base_url")
	set(demoConcurrency, "concurrency_and_buffer_size", "concurrency")
	if names := d.demoPlugins(src.example); len(names) > 0 {
		set(names, "plugins")
	}
}

// complete gives known providers their base URL, and takes "*" among a key's models for all of them, as Bifrost writes
// it.
func (d *draft) complete() {
	for name, p := range d.doc.Providers {
		if known, ok := proxy.Known(name); ok && p.BaseURL == "" {
			p.BaseURL = known.BaseURL
			d.doc.Providers[name] = p
		}
		for i := range p.Keys {
			if slices.Contains(p.Keys[i].Models, "*") {
				p.Keys[i].Models = nil
			}
		}
	}
}

// idleWarning names the plugins that no provider and no route names, or is nothing.
func (d *draft) idleWarning() string {
	var named []string
	for _, p := range d.doc.Providers {
		named = append(named, p.Plugins...)
	}
	for _, r := range d.doc.Routes {
		named = append(named, r.Plugins...)
	}
	var idle []string
	for _, p := range d.doc.Plugins {
		if p.Name != "" && !slices.Contains(named, p.Name) {
			idle = append(idle, p.Name)
		}
	}
	if len(idle) == 0 {
		return ""
	}
	return "plugins that no provider and no route names, so that they see no requests: " + listed(idle)
}

// judge adds what is wrong with the values themselves, each with the place it comes from, unless the place has a fault
// already.
func (d *draft) judge(faults []fault) []fault {
	prov := provenance{origins: d.origins}
	known := slices.Clone(faults)
	for _, f := range prov.locate(d.doc.invalid()) {
		if !covered(known, f.path) {
			faults = append(faults, f)
		}
	}
	return faults
}
