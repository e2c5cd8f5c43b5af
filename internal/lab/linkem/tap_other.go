//go:build !linux

package linkem

// transient tells errors that concern one frame from those of the port.
func transient(error) bool { return false }
