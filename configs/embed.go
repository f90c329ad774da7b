// Package configs holds sample configurations. The four profiles are embedded in Edge, so the samples are what it runs:
//
//	data, ok := configs.Profile("burst-resistant")
//
// It does not read or check them; cmd/edge does.
package configs

import (
	"embed"
	"slices"
)

//go:embed *.json
var files embed.FS

var profiles = []string{"high-throughput", "balanced", "burst-resistant", "resource-constrained"}

// Profiles returns the names of the profiles.
func Profiles() []string { return slices.Clone(profiles) }

// Profile returns the JSON document of a profile; false for an unknown name.
func Profile(name string) ([]byte, bool) {
	if !slices.Contains(profiles, name) {
		return nil, false
	}
	data, err := files.ReadFile(name + ".json")
	return data, err == nil
}
