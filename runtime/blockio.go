package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A BlockIO says how much of the block devices a container gets. The zero value limits nothing.
type BlockIO struct {
	Weight  int // against others, 10 to 1000; 0 is the kernel's default
	Devices []BlockLimit
}

// A BlockLimit limits one use of one block device.
type BlockLimit struct {
	Use   BlockUse
	Path  string // of the device, a whole disk
	Value uint64 // bytes or operations in a second, or a weight from 10 to 1000; 0 is no limit
}

// A BlockUse is what a BlockLimit limits. The value is the kernel's word for it in io.max.
type BlockUse string

// The uses of a block device.
const (
	BlockWeight    BlockUse = "weight"
	BlockReadBps   BlockUse = "rbps"
	BlockWriteBps  BlockUse = "wbps"
	BlockReadIOps  BlockUse = "riops"
	BlockWriteIOps BlockUse = "wiops"
)

// refuse is the error of a use that the kernel has no files for. docker goes on without the limit, with a warning in these words.
func (u BlockUse) refuse() string {
	what := map[BlockUse]string{
		BlockWeight: "Block I/O weight", BlockReadBps: "BPS Block I/O read limit", BlockWriteBps: "BPS Block I/O write limit",
		BlockReadIOps: "IOPS Block read limit", BlockWriteIOps: "IOPS Block write limit",
	}[u]
	return what + " can not be set, as your kernel does not support it or the cgroup is not mounted"
}

// ioWeight is what a weight of version 1 and of the BFQ scheduler (10 to 1000) is in io.weight (1 to 10000), by the formula of runc.
func ioWeight(weight uint64) uint64 {
	return 1 + (weight-10)*9999/990
}

// settings are the limits as files of the controller, io or blkio. The devices have to be there.
func (b *BlockIO) settings(unified bool) (list []setting, err error) {
	version := map[bool]int{false: 0, true: 1}[unified]
	if b.Weight != 0 {
		list = append(list, blockWeight("", uint64(b.Weight))[version])
	}
	for _, d := range b.Devices {
		number, err := blockDevice(d.Path)
		switch {
		case err != nil:
			return nil, err
		case d.Value == 0:
		case d.Use == BlockWeight:
			set := blockWeight(number+" ", d.Value)[version]
			set.device, set.or.device = d.Path, d.Path
			list = append(list, set)
		default:
			list = append(list, d.throttle(number)[version])
		}
	}
	return list, nil
}

// throttle is a rate of the device with a number, such as "8:16", for versions 1 and 2.
func (d *BlockLimit) throttle(number string) [2]setting {
	value := strconv.FormatUint(d.Value, 10)
	old := setting{controller: "blkio", values: []string{number + " " + value}, asked: true, refuse: d.Use.refuse(), device: d.Path}
	old.file = "blkio.throttle." + map[BlockUse]string{
		BlockReadBps: "read_bps", BlockWriteBps: "write_bps", BlockReadIOps: "read_iops", BlockWriteIOps: "write_iops",
	}[d.Use] + "_device"
	unified := old
	unified.controller, unified.file, unified.values = "io", "io.max", []string{number + " " + string(d.Use) + "=" + value}
	return [2]setting{old, unified}
}

// blockWeight is the weight of all devices, or of the one whose number and a space are given, for versions 1 and 2. Where the BFQ scheduler is,
// it goes by its own file.
func blockWeight(device string, weight uint64) (sets [2]setting) {
	suffix := ""
	if device != "" {
		suffix = "_device"
	}
	for version, of := range []struct {
		controller, bfq, file string
		value                 uint64 // for file
	}{
		{"blkio", "blkio.bfq.weight" + suffix, "blkio.weight" + suffix, weight},
		{"io", "io.bfq.weight", "io.weight", ioWeight(weight)},
	} {
		other := setting{
			controller: of.controller, file: of.file, values: []string{device + strconv.FormatUint(of.value, 10)}, asked: true, refuse: BlockWeight.refuse(),
		}
		set := other
		set.file, set.values, set.or = of.bfq, []string{device + strconv.FormatUint(weight, 10)}, &other
		sets[version] = set
	}
	return sets
}

// blockDevice is the number of a block device, "8:16".
func blockDevice(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is not a block device", path)
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// explainBlock says which device the kernel has something against.
func explainBlock(device string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%s cannot be limited: the kernel limits whole disks, not partitions, and only such as it can put requests in a queue for: %w", device, err)
	}
	return fmt.Errorf("%s cannot be limited: %w", device, err)
}
