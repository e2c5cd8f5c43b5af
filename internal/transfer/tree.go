package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// BlockSize is how much of a file is verified at once.
const BlockSize = 256 << 10

// A Hash is a SHA-256.
type Hash = [sha256.Size]byte

// blocks is the number of blocks of a file of this size, which is maxFileSize at most.
func blocks(size int64) uint32 { return uint32((size + BlockSize - 1) / BlockSize) }

// blockLength is how many bytes block i of a file has.
func blockLength(size int64, i uint32) int {
	return int(min(BlockSize, size-int64(i)*BlockSize))
}

// tree is the Merkle tree of §7, in the shape of RFC 9162 §2.1.
func tree(leaves []Hash) Hash {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1) // the largest power of two smaller than n
		left, right := tree(leaves[:k]), tree(leaves[k:])
		b := make([]byte, 0, 1+2*sha256.Size)
		b = append(append(append(b, 1), left[:]...), right[:]...)
		return sha256.Sum256(b)
	}
}

// fileRoot is the root of a file, over the hashes of all of its blocks.
func fileRoot(size int64, hashes []Hash) Hash {
	t := tree(hashes)
	b := binary.BigEndian.AppendUint64([]byte{2}, uint64(size))
	return sha256.Sum256(append(b, t[:]...))
}

const folderMode = 1 << 31

// manifestRoot is the root of a transfer; roots are of the files, zero for folders.
func manifestRoot(entries []Entry, roots []Hash) Hash {
	leaves := make([]Hash, len(entries))
	for i, e := range entries {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(e.Path)))
		b = append(b, e.Path...)
		mode := e.Mode
		var size int64
		if e.Size != nil {
			size = *e.Size
		}
		if e.Dir {
			mode, roots[i] = folderMode, Hash{}
		}
		b = binary.BigEndian.AppendUint64(b, uint64(size))
		b = binary.BigEndian.AppendUint64(b, uint64(e.MtimeMs))
		b = binary.BigEndian.AppendUint32(b, mode)
		leaves[i] = sha256.Sum256(append(b, roots[i][:]...))
	}
	t := tree(leaves)
	b := binary.BigEndian.AppendUint64([]byte{3}, uint64(len(entries)))
	return sha256.Sum256(append(b, t[:]...))
}
