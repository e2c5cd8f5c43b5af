//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminalWidth is a terminal's number of columns.
func terminalWidth(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80
	}
	return int(size.Col)
}

// staysInBackground: a command that was sent to the background goes on there, although it would like to read the terminal.
func staysInBackground() { signal.Ignore(syscall.SIGTTIN) }
