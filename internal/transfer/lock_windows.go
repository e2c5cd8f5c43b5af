package transfer

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockFile keeps a second process off a journal, until the file is closed or this process ends, however.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
}
