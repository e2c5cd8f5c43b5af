package transfer

import (
	"os"

	"golang.org/x/sys/windows"
)

// LockFile keeps a second process off a file, such as a journal, until it is closed or this process ends, however.
func LockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
}
