package store

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/madang-rtc/madang/internal/refusal"
)

// explainFile says in words for people what a file operation in dir met.
func explainFile(dir string, err error) error {
	var r *refusal.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		return err
	case errors.Is(err, syscall.EROFS):
		r = refusal.Newf(refusal.Storage, "the data directory %s is on a read-only file system", dir).Advise("mount it writable, or choose another with --data")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		r = refusal.Newf(refusal.Storage, "no space is left in the data directory %s", dir).Advise("free some, or choose another with --data")
	case errors.Is(err, fs.ErrPermission):
		r = refusal.Newf(refusal.Storage, "the data directory %s may not be read or written by this user", dir).Advise("change its owner, or choose another with --data")
	case errors.Is(err, syscall.ENOTDIR):
		r = refusal.Newf(refusal.Storage, "the data directory %s is not a directory", dir).Advise("choose another with --data")
	default:
		r = refusal.Newf(refusal.Storage, "the data directory %s cannot be used", dir).Advise("look at the disk that it is on, or choose another with --data")
	}
	return r.Because(err)
}
