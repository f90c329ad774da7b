package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dockerStep is one instruction of a Dockerfile, continuation lines joined.
type dockerStep struct {
	verb, rest string // verb in capitals
}

// dockerStages cuts a Dockerfile into its stages; each begins with its FROM.
func dockerStages(text string) (stages [][]dockerStep) {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			kept.WriteString(line)
		}
	}
	for line := range strings.Lines(strings.ReplaceAll(kept.String(), "\\\n", " ")) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		step := dockerStep{strings.ToUpper(verb), strings.TrimSpace(rest)}
		switch {
		case verb == "":
		case step.verb == "FROM":
			stages = append(stages, []dockerStep{step})
		case len(stages) > 0:
			stages[len(stages)-1] = append(stages[len(stages)-1], step)
		}
	}
	return stages
}

// dockerfileFaults returns what a Dockerfile lacks of an image that is the binary and the CA roots, nothing else.
// language is the version that go.mod asks for.
func dockerfileFaults(text, language string) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	stages := dockerStages(text)
	if len(stages) != 2 {
		return []string{fmt.Sprintf("%d stages, want a build stage and the image", len(stages))}
	}
	build, image := stages[0], stages[1]

	pinned := regexp.MustCompile(`^golang:(\d+\.\d+)\.\d+\S* AS build$`).FindStringSubmatch(build[0].rest)
	if pinned == nil || !strings.HasPrefix(language+".", pinned[1]+".") {
		fault("FROM %s, want golang:%s with a patch version", build[0].rest, language)
	}
	modules := slices.IndexFunc(build, func(s dockerStep) bool { return s.verb == "COPY" && strings.HasPrefix(s.rest, "go.mod go.sum ") })
	download := slices.Index(build, dockerStep{"RUN", "go mod download"})
	sources := slices.Index(build, dockerStep{"COPY", ". ."})
	if modules < 0 || modules > download || download > sources {
		fault("want COPY go.mod go.sum, RUN go mod download and COPY . . in this order")
	}
	for _, want := range []string{"CGO_ENABLED=0 go build ", " -trimpath ", ` -ldflags "-s -w -X main.version=${VERSION}"`, " -o /edge ./cmd/edge"} {
		if !slices.ContainsFunc(build, func(s dockerStep) bool { return s.verb == "RUN" && strings.Contains(s.rest, want) }) {
			fault("no RUN with %q", want)
		}
	}

	if image[0].rest != "scratch" {
		fault("the image is FROM %s, want scratch", image[0].rest)
	}
	got := map[string]int{}
	for _, step := range image[1:] {
		got[step.verb]++
		dockerImageStep(step, fault)
	}
	for verb, want := range map[string]int{"USER": 1, "EXPOSE": 1, "HEALTHCHECK": 1, "ENTRYPOINT": 1, "COPY": 2} {
		if got[verb] != want {
			fault("%d %s in the image, want %d", got[verb], verb, want)
		}
	}
	return faults
}

// dockerImageStep checks one instruction of the image.
func dockerImageStep(step dockerStep, fault func(string, ...any)) {
	switch step.verb {
	case "COPY":
		const roots = "/etc/ssl/certs/ca-certificates.crt"
		if step.rest != "--from=build /edge /edge" && step.rest != "--from=build "+roots+" "+roots {
			fault("COPY %s, want the binary and the CA roots only", step.rest)
		}
	case "USER":
		if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(step.rest) {
			fault("USER %s, want numbers: scratch has no /etc/passwd, and runAsNonRoot needs them", step.rest)
		}
	case "EXPOSE":
		if step.rest != "8080" {
			fault("EXPOSE %s, want 8080", step.rest)
		}
	case "HEALTHCHECK":
		_, command, _ := strings.Cut(step.rest, "CMD ")
		if !dockerExec(command, "/edge", "healthcheck") {
			fault(`HEALTHCHECK CMD %s, want ["/edge", "healthcheck"]: scratch has no shell`, command)
		}
	case "ENTRYPOINT":
		if !dockerExec(step.rest, "/edge") {
			fault(`ENTRYPOINT %s, want ["/edge"]: scratch has no shell`, step.rest)
		}
	default:
		fault("%s %s in the image, which needs no more than COPY, USER, EXPOSE, HEALTHCHECK and ENTRYPOINT", step.verb, step.rest)
	}
}

// dockerExec says whether command is in exec form and is these arguments.
func dockerExec(command string, want ...string) bool {
	var got []string
	return json.Unmarshal([]byte(command), &got) == nil && slices.Equal(got, want)
}

// repository reads a file of the repository's root.
func repository(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestDockerfile(t *testing.T) {
	text := repository(t, "Dockerfile")
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(repository(t, "go.mod"))
	if language == nil {
		t.Fatal("go.mod names no version of Go")
	}
	for _, fault := range dockerfileFaults(text, language[1]) {
		t.Error("Dockerfile: " + fault)
	}

	f := func(old, changed, want string) {
		t.Helper()
		if strings.Count(text, old) != 1 {
			t.Fatalf("the Dockerfile has %q %d times, want once", old, strings.Count(text, old))
		}
		faults := dockerfileFaults(strings.Replace(text, old, changed, 1), language[1])
		if len(faults) != 1 || !strings.Contains(faults[0], want) {
			t.Errorf("with %q for %q: got %q, want one fault with %q", changed, old, faults, want)
		}
	}
	f("FROM scratch", "FROM alpine:3", "want scratch")
	f("FROM scratch", "", "1 stages")
	f("FROM golang:"+language[1]+".", "FROM golang:1.20.", "with a patch version")
	f("COPY go.mod go.sum ./\n", "", "in this order")
	f("CGO_ENABLED=0 ", "", "CGO_ENABLED=0")
	f("-s -w", "-s", "-ldflags")
	f("USER 65532:65532", "USER nonroot", "USER nonroot, want numbers")
	f("USER 65532:65532", "USER 0:0", "USER 0:0, want numbers")
	f("USER 65532:65532\n", "", "0 USER")
	f(`CMD ["/edge", "healthcheck"]`, "CMD /edge healthcheck", "no shell")
	f(`ENTRYPOINT ["/edge"]`, "ENTRYPOINT /edge", "no shell")
	f(`ENTRYPOINT ["/edge"]`, `ENTRYPOINT ["/edge"]`+"\nRUN true", "RUN true in the image")
	f("COPY --from=build /edge /edge", "COPY --from=build / /", "binary and the CA roots")
}

// TestVersionIsSet holds the linker's flag against the variable it sets: one that does not exist, or that is not begun
// with a plain string, is left alone in silence.
func TestVersionIsSet(t *testing.T) {
	for _, name := range []string{"Makefile", "Dockerfile"} {
		if !strings.Contains(repository(t, name), "-X main.version=") {
			t.Errorf("%s: no -X main.version=", name)
		}
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			variables, ok := declaration.(*ast.GenDecl)
			if !ok || variables.Tok != token.VAR {
				continue
			}
			for _, spec := range variables.Specs {
				if plainString(spec.(*ast.ValueSpec), "version") {
					return
				}
			}
		}
	}
	t.Error(`want var version = "..." in package main`)
}

// plainString says whether spec declares name, and begins it with a string literal.
func plainString(spec *ast.ValueSpec, name string) bool {
	if len(spec.Names) != 1 || spec.Names[0].Name != name || len(spec.Values) != 1 {
		return false
	}
	literal, ok := spec.Values[0].(*ast.BasicLit)
	return ok && literal.Kind == token.STRING
}
