package server

import "runtime/debug"

// version is set by the linker (Makefile).
var version string

// Version is the program's version: what the build was told, or else what Go knows of the module.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
