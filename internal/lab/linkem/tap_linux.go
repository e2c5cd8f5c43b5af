package linkem

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A TAP is a network interface whose other end is this process: what the kernel sends over it is read here, and the reverse (Linux,
// Documentation/networking/tuntap.rst). Frames are of Ethernet, with complete checksums since no offloading is asked for.
type TAP struct{ file *os.File }

// OpenTAP makes an interface in the network namespace of the calling thread. It is gone when the TAP is closed. It must still be set up.
func OpenTAP(name string) (*TAP, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("interface name %q: %w", name, err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make interface %q: %w", name, err)
	}
	// A non-blocking descriptor goes to the runtime's poller, so that Close ends a Read. That is only possible after TUNSETIFF: before, the
	// device cannot be polled.
	return &TAP{os.NewFile(uintptr(fd), "tap:"+name)}, nil
}

// Read reads one frame.
func (t *TAP) Read(p []byte) (int, error) { return t.file.Read(p) }

// Write sends one frame.
func (t *TAP) Write(p []byte) (int, error) { return t.file.Write(p) }

// Close removes the interface and ends a blocked Read.
func (t *TAP) Close() error { return t.file.Close() }

// transient tells errors that concern one frame from those of the port. EIO: the interface is not up.
func transient(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINVAL)
}
