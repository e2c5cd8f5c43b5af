//go:build unix

package transfer

import (
	"os"

	"golang.org/x/sys/unix"
)

// LockFile keeps a second process off a file, such as a journal, until it is closed or this process ends, however.
func LockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
