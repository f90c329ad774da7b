package main

import (
	"cmp"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/edge-proxy/edge/proxy"
)

const (
	variablePrefix = "EDGE_"
	configVariable = "EDGE_CONFIG"      // the path of the JSON file
	inlineVariable = "EDGE_CONFIG_JSON" // a whole document
	testPrefix     = "EDGE_TEST_"
	providerPrefix = "PROVIDERS_"
	fileSuffix     = "_FILE"
)

// target is what a variable sets.
type target struct {
	path []string // with # for the index of a list's element
	leaf *leaf
	list *shape // leaf is the short value of this list's elements, which the variable has separated by commas; nil: not so
	file bool   // the value is in the file that the variable names
}

// fixedVariables are the variables that hold no provider's name, without EDGE_; providerVariables are what follows
// EDGE_PROVIDERS_<NAME>_. In both, # stands for a number.
var fixedVariables, providerVariables = variableTables()

func variableTables() (fixed, provider map[string]target) {
	fixed, provider = map[string]target{}, map[string]target{}
	addVariables(fixed, rootShape, "", nil)
	addVariables(provider, rootShape.member("providers").shape.elem, "", nil)
	first := provider["KEYS_#_VALUE"]
	addVariable(provider, "API_KEY", target{path: []string{"keys", "[0]", "value"}, leaf: first.leaf})
	for suffix, t := range provider {
		path := append([]string{"provider_defaults"}, t.path...)
		if suffix == "API_KEY" || suffix == "API_KEY"+fileSuffix {
			fixed["PROVIDER_DEFAULTS_"+suffix] = target{path: path, leaf: t.leaf, file: t.file}
		}
		if suffix == "CONCURRENCY" || suffix == "BUFFER_SIZE" {
			fixed[suffix] = target{path: path, leaf: t.leaf, file: t.file}
		}
	}
	return fixed, provider
}

func addVariables(table map[string]target, sh *shape, prefix string, path []string) {
	switch {
	case sh.kind == listShape:
		addVariables(table, sh.elem, prefix+"_#_", append(slices.Clip(path), "#"))
		if sh.short != nil {
			addVariable(table, prefix, target{path: path, leaf: sh.short.shape.leaf, list: sh})
		}
	case sh.leaf != nil:
		addVariable(table, prefix+sh.leaf.variable, target{path: path, leaf: sh.leaf})
	case sh.kind == objectShape:
		for _, m := range sh.members {
			addVariables(table, m.shape, prefix+m.prefix, append(slices.Clip(path), m.key))
		}
	}
}

// addVariable adds a variable and, for a secret, the one that names a file with it.
func addVariable(table map[string]target, name string, t target) {
	table[name] = t
	if t.leaf.secret() {
		t.file = true
		table[name+fileSuffix] = t
	}
}

var indexPart = regexp.MustCompile(`_(0|[1-9][0-9]{0,4})_`)

// lookup returns what the rest of a variable's name sets; the path has the indices in it.
func lookup(table map[string]target, rest string) (target, bool) {
	t, ok := table[indexPart.ReplaceAllString(rest, "_#_")]
	if !ok || strings.Contains(rest, "#") {
		return target{}, false
	}
	indices := indexPart.FindAllStringSubmatch(rest, -1)
	t.path = slices.Clone(t.path)
	for i, segment := range t.path {
		if segment == "#" {
			t.path[i] = "[" + indices[0][1] + "]"
			indices = indices[1:]
		}
	}
	return t, true
}

// variable is one that is set, and what it sets.
type variable struct {
	name string
	target
}

// variables reads the environment's EDGE_ names.
type variables struct {
	environ  map[string]string
	names    []string // of the configured providers, in the order of the document
	referred map[string]bool
	whole    bool // every document could be read, so what no document refers to is known
	found    []variable
	links    []string // Kubernetes' service links
	faults   []fault
}

func (v *variables) fail(name, path, want string) {
	v.faults = append(v.faults, fault{from: origin{rank: fromVariable, name: name}, path: path, want: want})
}

// scan finds what every EDGE_ variable sets.
func (v *variables) scan() {
	var providers []string
	for _, name := range slices.Sorted(maps.Keys(v.environ)) {
		rest, ours := strings.CutPrefix(name, variablePrefix)
		if !ours || name == configVariable || name == inlineVariable || strings.HasPrefix(name, testPrefix) {
			continue
		}
		t, known := lookup(fixedVariables, rest)
		_, end, isProvider := newProvider(rest)
		switch {
		case known:
			v.add(name, t)
		case isProvider:
			if v.environ[name] != "" || end.leaf.secret() {
				providers = append(providers, rest)
			}
		case v.referred[name]:
		case serviceLink(rest, v.environ[name]):
			v.links = append(v.links, name)
		case laterVariable(rest) && v.environ[name] == "":
		case v.whole:
			v.fail(name, "", v.unknown(rest))
		}
	}
	v.addProviders(providers)
	v.once()
}

// add takes a variable unless it is empty, which means unset, or for a secret a mistake.
func (v *variables) add(name string, t target) {
	if v.environ[name] != "" {
		v.found = append(v.found, variable{name, t})
	} else if t.leaf.secret() {
		v.fail(name, join(t.path), "is empty; unset it, or give it a value")
	}
}

// addProviders reads the variables of providers. Only when all names are known, those of variables included, is it
// known which variable can be read in two ways.
func (v *variables) addProviders(rests []string) {
	names := slices.Clone(v.names)
	for _, rest := range rests {
		if name, _, _ := newProvider(rest); v.readings(rest, v.names) == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, rest := range rests {
		name := variablePrefix + rest
		readings := v.readings(rest, names)
		if len(readings) > 1 {
			v.fail(name, "", "can be read as "+join(readings[0].path)+" and as "+join(readings[1].path)+"; set it in JSON")
			continue
		}
		v.add(name, readings[0])
	}
}

// readings returns what a variable sets for each provider in names whose form it begins with; the longest name is first.
func (v *variables) readings(rest string, names []string) (found []target) {
	rest, ok := strings.CutPrefix(rest, providerPrefix)
	if !ok {
		return nil
	}
	for _, name := range names {
		suffix, ok := strings.CutPrefix(rest, variableForm(name)+"_")
		if !ok {
			continue
		}
		if t, ok := lookup(providerVariables, suffix); ok {
			t.path = append([]string{"providers", name}, t.path...)
			found = append(found, t)
		}
	}
	slices.SortStableFunc(found, func(a, b target) int { return cmp.Compare(len(b.path[1]), len(a.path[1])) })
	return found
}

// newProvider reads the variable of a provider that only variables name: the name is what is before the longest known
// suffix.
func newProvider(rest string) (name string, t target, ok bool) {
	rest, ok = strings.CutPrefix(rest, providerPrefix)
	for i := 1; ok && i < len(rest)-1; i++ {
		if rest[i] != '_' || variableForm(rest[:i]) != rest[:i] {
			continue
		}
		if t, ok := lookup(providerVariables, rest[i+1:]); ok {
			return strings.ToLower(rest[:i]), t, true
		}
	}
	return "", target{}, false
}

// variableForm returns a provider's name as variables have it.
func variableForm(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
}

// once refuses two variables for one value, and puts the elements of lists in order, since an element can be added
// only behind the last.
func (v *variables) once() {
	slices.SortStableFunc(v.found, func(a, b variable) int {
		return slices.CompareFunc(a.path, b.path, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) // [9] before [10]
		})
	})
	v.found = slices.CompactFunc(v.found, func(later, first variable) bool {
		same := slices.Equal(later.path, first.path)
		if same {
			v.fail(later.name, join(later.path), "is set by "+first.name+" too; want one of them")
		}
		return same
	})
}

var linkName = regexp.MustCompile(`^(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_.+)?)$`)

// serviceLink reports whether a variable is one that Kubernetes makes for a Service called edge or edge-something. A
// plain number in EDGE_PORT is none: somebody meant the listener.
func serviceLink(rest, value string) bool {
	return linkName.MatchString(rest) || (rest == "PORT" || strings.HasSuffix(rest, "_PORT")) && strings.Contains(value, "://")
}

// laterVariable reports whether a variable is one of laterKeys.
func laterVariable(rest string) bool { return strings.HasPrefix(rest, "CLUSTER_") }

// unknown words the fault for a variable that means nothing. Its value is not shown: it may be a misnamed secret.
func (v *variables) unknown(rest string) string {
	if laterVariable(rest) {
		return notYet
	}
	if rest == "PORT" {
		return "unknown variable (did you mean EDGE_LISTEN?)"
	}
	if len(rest) > 2*shownBytes {
		return "unknown variable"
	}
	index := "0"
	if match := indexPart.FindStringSubmatch(rest); match != nil {
		index = match[1]
	}
	var choices []string
	for name := range fixedVariables {
		choices = append(choices, strings.Replace(name, "#", index, 1))
	}
	if own, ok := strings.CutPrefix(rest, providerPrefix); ok {
		forms := append(proxy.KnownNames(), v.names...)
		for i := range len(own) {
			if own[i] == '_' {
				forms = append(forms, own[:i])
			}
		}
		for _, form := range forms {
			for suffix := range providerVariables {
				choices = append(choices, providerPrefix+variableForm(form)+"_"+strings.Replace(suffix, "#", index, 1))
			}
		}
	}
	slices.Sort(choices)
	if best, ok := proxy.Nearest(rest, choices); ok {
		return "unknown variable (did you mean " + variablePrefix + best + "?)"
	}
	return "unknown variable"
}

// settings converts what was found. files has the content of each *_FILE variable's file; one that is missing was not
// readable, which is a fault elsewhere.
func (v *variables) settings(files map[string]string) (all []setting) {
	for _, found := range v.found {
		text := v.environ[found.name]
		if found.file {
			var ok bool
			if text, ok = files[found.name]; !ok {
				text = "unread" // holds the place, so that nothing else complains of it
			}
			if text == "" {
				v.fail(found.name, join(found.path), "the file is empty")
				continue
			}
		}
		from := origin{rank: fromVariable, name: found.name}
		var some []setting
		var value reflect.Value
		var err error
		if found.list != nil {
			some, err = found.list.shortSettings(text, found.path, from)
		} else {
			value, err = found.leaf.fromText(text)
			some = []setting{{path: found.path, value: value, from: from}}
		}
		if err != nil {
			got, want := quoted(text), found.leaf.wanted()
			if found.leaf.private() {
				got, want = "", "want "+want+" (the value is not shown)"
			}
			v.faults = append(v.faults, fault{from, join(found.path), got, want})
			continue
		}
		all = append(all, some...)
	}
	return all
}

// secretFile reports whether a variable names a file with a secret.
func secretFile(name string) bool {
	rest, ours := strings.CutPrefix(name, variablePrefix)
	t, ok := lookup(fixedVariables, rest)
	if !ok {
		_, t, ok = newProvider(rest)
	}
	return ours && ok && t.file
}
