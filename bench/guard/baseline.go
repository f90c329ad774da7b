package main

import "fmt"

// tolerance is how many percent more instructions a request may take. On a machine with three times as much to do as it
// has cores, single runs came out up to 2 % above the least of three, and one 6 %; docs/bench.md.
const tolerance = 4

// cost is what one request of a scenario costs.
type cost struct {
	Allocations  int `json:"allocations"`
	Instructions int `json:"instructions"`
}

// baseline is what requests cost when it was written, by scenario.
type baseline struct {
	Go        string          `json:"go"`
	Arch      string          `json:"arch"`
	Scenarios map[string]cost `json:"scenarios"`
}

// judge returns what is wrong with got. Allocations are to be what they were: fewer want a new baseline, too, or the gain
// could be lost unseen.
func judge(name string, base, got cost) (faults []string) {
	if got.Allocations != base.Allocations {
		faults = append(faults, fmt.Sprintf("%s: got %d allocations a request, want %d", name, got.Allocations, base.Allocations))
	}
	if got.Instructions*100 > base.Instructions*(100+tolerance) {
		faults = append(faults, fmt.Sprintf("%s: got %d instructions a request, want at most %d %% more than %d", name, got.Instructions, tolerance, base.Instructions))
	}
	return faults
}
