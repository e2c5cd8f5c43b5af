//go:build unix

package depot

import (
	"errors"
	"os"
)

// syncDir makes names in a folder outlive a crash of the machine.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
