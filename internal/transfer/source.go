package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/madang-rtc/madang/internal/refusal"
)

// A source is what a sender sends: files and folders, or one stream. It is safe for concurrent use.
type source struct {
	mu     sync.Mutex
	files  []*sourceFile
	open   []*sourceFile // least recently used first
	stream *streamFile   // of files[0], if it is a stream
}

type sourceFile struct {
	path   string // on this machine
	entry  Entry
	mtime  time.Time
	file   *os.File
	users  int
	hashes []Hash
	known  bitmap
}

const maxOpenFiles = 64

// walk finds the files below paths and hands over entries in bunches; it returns when all are found. skipped is told what is not sent.
func (s *source) walk(ctx context.Context, paths []string, found func([]Entry) error, skipped func(path, why string)) error {
	var bunch []Entry
	flush := func() error {
		if len(bunch) == 0 {
			return nil
		}
		err := found(bunch)
		bunch = nil
		return err
	}
	seen := map[string]bool{}
	var sum load
	add := func(local, name string, info fs.FileInfo, dir bool) error {
		name = strings.ToValidUTF8(name, "\uFFFD")
		if err := checkPath(name); err != nil {
			skipped(local, "its name cannot be sent")
			return nil
		}
		if seen[name] {
			skipped(local, "another file has the same name")
			return nil
		}
		seen[name] = true
		e := Entry{Path: name, Dir: dir, Size: new(int64)}
		if !dir {
			*e.Size, e.MtimeMs, e.Mode = info.Size(), info.ModTime().UnixMilli(), uint32(info.Mode().Perm())
		}
		if !sum.add(e) {
			return tooLarge().With("path", name)
		}
		s.mu.Lock()
		s.files = append(s.files, &sourceFile{path: local, entry: e, mtime: info.ModTime()})
		s.mu.Unlock()
		bunch = append(bunch, e)
		if len(bunch) >= 256 {
			return flush()
		}
		return ctx.Err()
	}
	for _, p := range paths {
		p = filepath.Clean(p)
		info, err := os.Stat(p) // what is named may be a link
		if err != nil {
			return err
		}
		base := filepath.Base(p)
		if base == "." || base == ".." || base == string(filepath.Separator) {
			absolute, err := filepath.Abs(p)
			if err != nil {
				return err
			}
			if base = filepath.Base(absolute); base == string(filepath.Separator) {
				base = "root"
			}
		}
		switch {
		case info.Mode().IsRegular():
			if err := add(p, base, info, false); err != nil {
				return err
			}
		case info.IsDir():
			root := p
			if resolved, err := filepath.EvalSymlinks(p); err == nil {
				root = resolved
			}
			err := filepath.WalkDir(root, func(local string, d fs.DirEntry, err error) error {
				rel, relErr := filepath.Rel(root, local)
				if relErr != nil {
					return relErr
				}
				if err != nil {
					skipped(local, "it cannot be read")
					if d != nil && d.IsDir() {
						return fs.SkipDir
					}
					return nil
				}
				name := path.Join(base, filepath.ToSlash(rel))
				switch {
				case d.IsDir():
					inside, err := os.ReadDir(local)
					if err == nil && len(inside) == 0 {
						info, err := d.Info()
						if err != nil {
							return nil
						}
						return add(local, name, info, true)
					}
				case d.Type().IsRegular():
					info, err := d.Info()
					if err != nil {
						skipped(local, "it cannot be read")
						return nil
					}
					return add(local, name, info, false)
				default:
					skipped(local, "it is not a file")
				}
				return ctx.Err()
			})
			if err != nil {
				return err
			}
		default:
			skipped(p, "it is not a file")
		}
	}
	return flush()
}

func (s *source) file(i uint32) *sourceFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[i]
}

// acquire opens a file, or finds it open.
func (s *source) acquire(f *sourceFile) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.file == nil {
		file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe that has taken its place must not hold us up
		if err != nil {
			return nil, refusal.New(refusal.SourceUnreadable).With("path", f.entry.Path).Because(err)
		}
		f.file = file
	}
	f.users++
	s.open = append(slices.DeleteFunc(s.open, func(o *sourceFile) bool { return o == f }), f)
	for k := 0; len(s.open) > maxOpenFiles && k < len(s.open); {
		if old := s.open[k]; old.users == 0 {
			old.file.Close()
			old.file = nil
			s.open = slices.Delete(s.open, k, k+1)
			continue
		}
		k++
	}
	return f.file, nil
}

func (s *source) release(f *sourceFile) {
	s.mu.Lock()
	f.users--
	s.mu.Unlock()
}

// closeIdle gives all open files back.
func (s *source) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.open {
		f.file.Close()
		f.file = nil
	}
	s.open = nil
	if s.stream != nil {
		s.stream.close()
	}
}

// read reads block i of a file into buf, with its hash. A refusal says that the file cannot be had any more.
func (s *source) read(ctx context.Context, n, i uint32, buf []byte) ([]byte, Hash, error) {
	f := s.file(n)
	if s.stream != nil {
		buf, h, err := s.stream.read(ctx, i, buf)
		if err == nil && buf != nil {
			s.learn(f, i, h)
		}
		return buf, h, err
	}
	file, err := s.acquire(f)
	if err != nil {
		return nil, Hash{}, err
	}
	defer s.release(f)
	if err := f.unchanged(file); err != nil {
		return nil, Hash{}, err
	}
	buf = buf[:blockLength(*f.entry.Size, i)]
	if _, err := file.ReadAt(buf, int64(i)*BlockSize); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, Hash{}, refusal.New(refusal.SourceChanged).With("path", f.entry.Path)
		}
		return nil, Hash{}, refusal.New(refusal.SourceUnreadable).With("path", f.entry.Path).Because(err)
	}
	h := sha256.Sum256(buf)
	s.learn(f, i, h)
	return buf, h, nil
}

func (f *sourceFile) unchanged(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return refusal.New(refusal.SourceUnreadable).With("path", f.entry.Path).Because(err)
	}
	if !info.Mode().IsRegular() || info.Size() != *f.entry.Size || !info.ModTime().Equal(f.mtime) {
		return refusal.New(refusal.SourceChanged).With("path", f.entry.Path)
	}
	return nil
}

func (s *source) learn(f *sourceFile, i uint32, h Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for int(i) >= len(f.hashes) {
		f.hashes = append(f.hashes, Hash{})
	}
	f.hashes[i] = h
	f.known.set(i)
}

// known gives hashes from first on, as far as they are known without a gap.
func (s *source) known(n, first, count uint32) (list []Hash) {
	f := s.file(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := first; i-first < min(count, maxHashes) && f.known.has(i); i++ {
		list = append(list, f.hashes[i])
	}
	return list
}

// root reads what has not been read yet, and makes sure that the file is still the same.
func (s *source) root(ctx context.Context, n uint32) (Hash, error) {
	f := s.file(n)
	if f.entry.Dir {
		return Hash{}, nil
	}
	if s.stream != nil {
		if err := s.stream.wait(ctx); err != nil {
			return Hash{}, err
		}
	}
	size := *f.entry.Size
	buf := make([]byte, BlockSize)
	for i := range blocks(size) {
		s.mu.Lock()
		known := f.known.has(i)
		s.mu.Unlock()
		if known {
			continue
		}
		if err := ctx.Err(); err != nil {
			return Hash{}, err
		}
		if _, _, err := s.read(ctx, n, i, buf); err != nil {
			return Hash{}, err
		}
	}
	if s.stream == nil {
		file, err := s.acquire(f)
		if err != nil {
			return Hash{}, err
		}
		defer s.release(f)
		if err := f.unchanged(file); err != nil {
			return Hash{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return fileRoot(size, f.hashes[:blocks(size)]), nil
}

// A streamFile keeps a stream in a file without a name, since a receiver may need a part again.
type streamFile struct {
	mu    sync.Mutex
	cond  *sync.Cond
	spool *os.File
	n     int64
	end   bool
	err   error
}

// newStream makes a source of one stream; pump must run.
func newStream(name string) (*source, error) {
	spool, err := os.CreateTemp("", "madang-stream-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(spool.Name()); err != nil {
		spool.Close()
		return nil, err
	}
	st := &streamFile{spool: spool}
	st.cond = sync.NewCond(&st.mu)
	return &source{files: []*sourceFile{{entry: Entry{Path: name}}}, stream: st}, nil
}

// pump takes the stream in until it ends; ended is told how long it was.
func (st *streamFile) pump(r io.Reader, ended func(size int64)) error {
	buf := make([]byte, BlockSize)
	for {
		n, err := r.Read(buf)
		if st.n+int64(n) > maxFileSize {
			n, err = 0, tooLarge()
		}
		if n > 0 {
			if _, werr := st.spool.WriteAt(buf[:n], st.n); werr != nil {
				err = fmt.Errorf("keep the stream: %w", werr)
			}
		}
		st.mu.Lock()
		st.n += int64(n)
		if err != nil {
			st.end = true
			if !errors.Is(err, io.EOF) {
				st.err = err
			}
		}
		size, failed := st.n, st.err
		st.mu.Unlock()
		if err != nil {
			if failed == nil {
				ended(size)
			}
			st.cond.Broadcast()
			return failed
		}
		st.cond.Broadcast()
	}
}

func (st *streamFile) close() {
	st.mu.Lock()
	st.end, st.err = true, os.ErrClosed
	st.mu.Unlock()
	st.cond.Broadcast()
	st.spool.Close()
}

// until waits for a state of the stream.
func (st *streamFile) until(ctx context.Context, ready func() bool) error {
	stop := context.AfterFunc(ctx, func() { st.mu.Lock(); defer st.mu.Unlock(); st.cond.Broadcast() })
	defer stop()
	st.mu.Lock()
	defer st.mu.Unlock()
	for !ready() && !st.end && ctx.Err() == nil {
		st.cond.Wait()
	}
	if st.err != nil {
		return refusal.New(refusal.SourceUnreadable).Because(st.err)
	}
	return ctx.Err()
}

func (st *streamFile) wait(ctx context.Context) error {
	return st.until(ctx, func() bool { return false })
}

func (st *streamFile) read(ctx context.Context, i uint32, buf []byte) ([]byte, Hash, error) {
	if err := st.until(ctx, func() bool { return st.n >= int64(i+1)*BlockSize }); err != nil {
		return nil, Hash{}, err
	}
	st.mu.Lock()
	n := min(int64(BlockSize), st.n-int64(i)*BlockSize)
	st.mu.Unlock()
	if n <= 0 {
		return nil, Hash{}, nil // beyond the end: size has been said
	}
	buf = buf[:n]
	if _, err := st.spool.ReadAt(buf, int64(i)*BlockSize); err != nil {
		return nil, Hash{}, refusal.New(refusal.SourceUnreadable).Because(err)
	}
	h := sha256.Sum256(buf)
	return buf, h, nil
}
