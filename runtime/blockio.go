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
	if b.Weight != 0 {
		list = append(list, blockWeight(unified, "", uint64(b.Weight)))
	}
	for _, d := range b.Devices {
		number, err := blockDevice(d.Path)
		switch {
		case err != nil:
			return nil, err
		case d.Value == 0:
		case d.Use == BlockWeight:
			set := blockWeight(unified, number+" ", d.Value)
			set.device, set.or.device = d.Path, d.Path
			list = append(list, set)
		default:
			list = append(list, d.throttle(unified, number))
		}
	}
	return list, nil
}

// throttle is a rate of the device with a number, such as "8:16".
func (d *BlockLimit) throttle(unified bool, number string) setting {
	value := strconv.FormatUint(d.Value, 10)
	set := setting{controller: "io", file: "io.max", values: []string{number + " " + string(d.Use) + "=" + value}, asked: true, refuse: d.Use.refuse(), device: d.Path}
	if !unified {
		set.controller, set.values = "blkio", []string{number + " " + value}
		set.file = "blkio.throttle." + map[BlockUse]string{
			BlockReadBps: "read_bps", BlockWriteBps: "write_bps", BlockReadIOps: "read_iops", BlockWriteIOps: "write_iops",
		}[d.Use] + "_device"
	}
	return set
}

// blockWeight is the weight of all devices, or of the one whose number and a space are given. Where the BFQ scheduler is, it goes by its own file.
func blockWeight(unified bool, device string, weight uint64) setting {
	controller, files, value := "io", [2]string{"io.bfq.weight", "io.weight"}, ioWeight(weight)
	if !unified {
		controller, files, value = "blkio", [2]string{"blkio.bfq.weight", "blkio.weight"}, weight
		if device != "" {
			files[0], files[1] = files[0]+"_device", files[1]+"_device"
		}
	}
	set := setting{controller: controller, file: files[0], values: []string{device + strconv.FormatUint(weight, 10)}, asked: true, refuse: BlockWeight.refuse()}
	other := set
	other.file, other.values = files[1], []string{device + strconv.FormatUint(value, 10)}
	set.or = &other
	return set
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
