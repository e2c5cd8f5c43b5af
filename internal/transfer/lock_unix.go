//go:build unix

package transfer

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile keeps a second process off a journal, until the file is closed or this process ends, however.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
