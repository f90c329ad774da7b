package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTuning holds docs/tuning.md against what it speaks of: the profiles' files and the list of metrics.
func TestTuning(t *testing.T) {
	page := repository(t, "docs/tuning.md")

	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)`.*\\| (\\d+ / \\d+ / \\d+) \\|$").FindAllStringSubmatch(page, -1)
	var names []string
	for _, row := range rows {
		var profile struct {
			Client struct {
				Pool int `json:"initial_pool_size"`
			} `json:"client"`
			Provider struct {
				Bounds struct {
					Concurrency int `json:"concurrency"`
					Buffer      int `json:"buffer_size"`
				} `json:"concurrency_and_buffer_size"`
			} `json:"provider_defaults"`
		}
		if err := json.Unmarshal([]byte(repository(t, "configs/"+row[1]+".json")), &profile); err != nil {
			t.Errorf("configs/%s.json: %v", row[1], err)
		}
		bounds := profile.Provider.Bounds
		if set := fmt.Sprintf("%d / %d / %d", bounds.Concurrency, bounds.Buffer, profile.Client.Pool); set != row[2] {
			t.Errorf("docs/tuning.md: %s: got %s, want %s as in its file", row[1], row[2], set)
		}
		names = append(names, row[1])
	}
	if want := []string{"high-throughput", "balanced", "burst-resistant", "resource-constrained"}; !slices.Equal(names, want) {
		t.Errorf("docs/tuning.md: its table has the profiles %q, want %q", names, want)
	}

	list := repository(t, "docs/metrics.md")
	used := regexp.MustCompile(`\bedge_[a-z_]+`).FindAllString(page, -1)
	if len(used) == 0 {
		t.Error("docs/tuning.md: names no metric")
	}
	for _, name := range used {
		family := strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")
		if !strings.Contains(list, "`"+family+"`") && !strings.Contains(list, "`"+family+"{") {
			t.Errorf("docs/tuning.md: docs/metrics.md has no %s", family)
		}
	}
}
