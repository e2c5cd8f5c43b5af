package depot

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// The index of a depot is a list of records in the order of the objects in its file: number (8 bytes), length (4), CRC-32C of both (4). A record is written once its object is on the disk:
// what a crash leaves is a tail that has no record, or half of one, and both are cut off.
const recordSize = 16

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendRecord(b []byte, number uint64, length int) []byte {
	start := len(b)
	b = AppendHeader(b, number, length)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// A place is where an object lies in the file.
type place struct {
	offset int64
	length uint32
}

// objects is what a depot has.
type objects struct {
	at     map[uint64]place
	ranges []Range // of the numbers, in order
	size   int64   // of the file
}

// readIndex takes the records that are whole, up to the first that is not or whose object is not all in a file of this size. read is their length.
func readIndex(index []byte, size int64) (o objects, read int) {
	o.at = map[uint64]place{}
	for ; read+recordSize <= len(index); read += recordSize {
		r := index[read : read+recordSize]
		number, length := binary.BigEndian.Uint64(r), binary.BigEndian.Uint32(r[8:])
		if binary.BigEndian.Uint32(r[12:]) != crc32.Checksum(r[:12], castagnoli) || length < MinObject || length > MaxObject || number > MaxNumber ||
			o.size+int64(length) > size || len(o.at) == maxObjects || o.has(number) || !o.fits(number) {
			break
		}
		o.add(number, int(length))
	}
	return o, read
}

func (o *objects) has(number uint64) bool { _, ok := o.at[number]; return ok }

// find returns the first range that ends at the number or behind it.
func (o *objects) find(number uint64) int {
	i, _ := slices.BinarySearchFunc(o.ranges, number, func(r Range, n uint64) int {
		if r.End() < n {
			return -1
		}
		return 1
	})
	return i
}

// fits reports whether the number can be added without scattering the numbers over too many ranges.
func (o *objects) fits(number uint64) bool {
	if len(o.ranges) < maxRanges {
		return true
	}
	i := o.find(number)
	return i < len(o.ranges) && o.ranges[i].First() <= number+1
}

// add takes a number that is not there.
func (o *objects) add(number uint64, length int) {
	o.at[number] = place{o.size, uint32(length)}
	o.size += int64(length)
	i := o.find(number)
	switch {
	case i < len(o.ranges) && o.ranges[i].End() == number:
		o.ranges[i][1]++
		if i+1 < len(o.ranges) && o.ranges[i+1].First() == number+1 {
			o.ranges[i][1] += o.ranges[i+1][1]
			o.ranges = slices.Delete(o.ranges, i+1, i+2)
		}
	case i < len(o.ranges) && o.ranges[i].First() == number+1:
		o.ranges[i][0]--
		o.ranges[i][1]++
	default:
		o.ranges = slices.Insert(o.ranges, i, Range{number, 1})
	}
}

// charge is what a project pays for an object: its length, and what the server keeps in mind for it.
func charge(length int) int64 { return int64(length) + 1024 }

// depotCharge is for a depot without objects.
const depotCharge = 4096

func (o *objects) charge() int64 { return depotCharge + o.size + 1024*int64(len(o.at)) }
