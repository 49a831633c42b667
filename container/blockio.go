package container

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/forge-build/forge/runtime"
)

// BlockFlags are the flags that limit what a container reads from, and writes to, block devices, as they are written.
type BlockFlags struct {
	BlkioWeight       uint16   `name:"blkio-weight" help:"Share of the block devices, against others: 10 to 1000." placeholder:"N"`
	BlkioWeightDevice []string `name:"blkio-weight-device" sep:"none" help:"Share of one block device." placeholder:"DEVICE:N"`
	DeviceReadBps     []string `name:"device-read-bps" sep:"none" help:"Bytes a second that are read from a block device." placeholder:"DEVICE:BYTES"`
	DeviceWriteBps    []string `name:"device-write-bps" sep:"none" help:"Bytes a second that are written to a block device." placeholder:"DEVICE:BYTES"`
	DeviceReadIOps    []string `name:"device-read-iops" sep:"none" help:"Reads a second of a block device." placeholder:"DEVICE:N"`
	DeviceWriteIOps   []string `name:"device-write-iops" sep:"none" help:"Writes a second to a block device." placeholder:"DEVICE:N"`
}

// ParseBlockIO reads them. The words of its errors are docker's.
func ParseBlockIO(f BlockFlags) (b runtime.BlockIO, err error) {
	if b.Weight, err = blockWeight(f.BlkioWeight); err != nil {
		return b, err
	}
	for _, list := range []struct {
		flag   string
		values []string
		use    runtime.BlockUse
		parse  func(value, all string) (uint64, error)
	}{
		{"--blkio-weight-device", f.BlkioWeightDevice, runtime.BlockWeight, parseWeight},
		{"--device-read-bps", f.DeviceReadBps, runtime.BlockReadBps, parseBps},
		{"--device-write-bps", f.DeviceWriteBps, runtime.BlockWriteBps, parseBps},
		{"--device-read-iops", f.DeviceReadIOps, runtime.BlockReadIOps, parseIOps},
		{"--device-write-iops", f.DeviceWriteIOps, runtime.BlockWriteIOps, parseIOps},
	} {
		for _, text := range list.values {
			i := strings.LastIndex(text, ":") // paths may have some, such as those of /dev/disk/by-path
			path, value := text[:max(i, 0)], text[i+1:]
			limit := runtime.BlockLimit{Use: list.use, Path: path}
			switch {
			case path == "":
				err = fmt.Errorf("bad format: %s", text)
			case !strings.HasPrefix(path, "/dev/"):
				err = fmt.Errorf("bad format for device path: %s", text)
			default:
				limit.Value, err = list.parse(value, text)
			}
			if err != nil {
				return b, fmt.Errorf("invalid argument %q for %q flag: %w", text, list.flag, err)
			}
			b.Devices = append(b.Devices, limit)
		}
	}
	return b, nil
}

// UpdateBlockIO are the limits of a container that has f when another weight, unless it is 0, takes the place of its own.
func UpdateBlockIO(f BlockFlags, weight uint16) BlockFlags {
	f.BlkioWeight = cmp.Or(weight, f.BlkioWeight)
	return f
}

func blockWeight(weight uint16) (int, error) {
	if weight != 0 && (weight < 10 || weight > 1000) {
		return 0, errors.New("Range of blkio weight is from 10 to 1000") //nolint:staticcheck // docker's words
	}
	return int(weight), nil
}

func parseWeight(value, all string) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, 16)
	if err == nil {
		_, err = blockWeight(uint16(n))
	}
	if err != nil {
		return 0, fmt.Errorf("invalid weight for device: %s", all)
	}
	return n, nil
}

func parseBps(value, all string) (uint64, error) {
	n, err := units.RAMInBytes(value)
	if err != nil || n < 0 || tooLarge(value) {
		return 0, fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>[<unit>]. "+
			"Number must be a positive integer. Unit is optional and can be kb, mb, or gb", all)
	}
	return uint64(n), nil
}

func parseIOps(value, all string) (uint64, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>. Number must be a positive integer", all)
	}
	return n, nil
}
