//go:build linux

package lab

import (
	"os"
	"os/exec"
	"testing"
)

// Missing skips the test, or fails it when the environment variable CI is "true": in CI everything that the tests need is installed, and a
// missing part is an error of the set-up.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Require calls [Missing] unless network namespaces can be made here.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "network namespaces need root")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			Missing(t, "network namespaces need the program %q: %v", program, err)
		}
	}
}
