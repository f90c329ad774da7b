package main

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3". Without it, it is that of the build.
var version = ""

const wazeroModule = "github.com/tetratelabs/wazero"

// showVersion writes what edge is built from.
func showVersion(inv invocation) int {
	if code, ok := parseArgs(inv, flag.NewFlagSet("edge version", flag.ContinueOnError)); !ok {
		return code
	}
	info := buildInfo()
	fmt.Fprintln(inv.stdout, "edge", edgeVersion(info))
	if commit := commitOf(info); commit != "" {
		fmt.Fprintln(inv.stdout, "commit", commit)
	}
	fmt.Fprintln(inv.stdout, "go", runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
	for _, module := range info.Deps {
		if module.Path == wazeroModule {
			fmt.Fprintln(inv.stdout, "wazero", module.Version)
		}
	}
	return exitOK
}

// buildInfo returns what the linker recorded; empty when that is nothing.
func buildInfo() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return &debug.BuildInfo{}
}

func edgeVersion(info *debug.BuildInfo) string {
	switch {
	case version != "":
		return version
	case info.Main.Version != "":
		return info.Main.Version
	}
	return "(devel)"
}

// commitOf returns the commit that was built, with -dirty when the tree was not clean, or nothing.
func commitOf(info *debug.BuildInfo) string {
	var commit, dirty string
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			commit = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	if commit == "" {
		return ""
	}
	return commit + dirty
}
