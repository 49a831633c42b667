package container

import (
	"strings"
	"testing"
)

func TestParseBlockIO(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in   BlockFlags
		want string
	}{
		{BlockFlags{}, "{0 []}"},
		{BlockFlags{
			BlkioWeight: 10, BlkioWeightDevice: []string{"/dev/a:1000", "/dev/b:0"}, DeviceReadBps: []string{"/dev/a:1mb"}, DeviceWriteBps: []string{"/dev/a:2k", "/dev/b:3"},
			DeviceReadIOps: []string{"/dev/a:4"}, DeviceWriteIOps: []string{"/dev/a:5"},
		}, "{10 [{weight /dev/a 1000} {weight /dev/b 0} {rbps /dev/a 1048576} {wbps /dev/a 2048} {wbps /dev/b 3} {riops /dev/a 4} {wiops /dev/a 5}]}"},
		{BlockFlags{DeviceReadBps: []string{"/dev/disk/by-path/pci-0000:00:1f.2-ata-1:1mb"}}, "{0 [{rbps /dev/disk/by-path/pci-0000:00:1f.2-ata-1 1048576}]}"},
		{BlockFlags{BlkioWeight: 9}, "Range of blkio weight is from 10 to 1000"},
		{BlockFlags{BlkioWeight: 1001}, "Range of blkio weight is from 10 to 1000"},
		{BlockFlags{BlkioWeightDevice: []string{"/dev/a"}}, `invalid argument "/dev/a" for "--blkio-weight-device" flag: bad format: /dev/a`},
		{BlockFlags{BlkioWeightDevice: []string{"/dev/a:9"}}, `flag: invalid weight for device: /dev/a:9`},
		{BlockFlags{BlkioWeightDevice: []string{"/dev/a:65536"}}, `flag: invalid weight for device: /dev/a:65536`},
		{BlockFlags{DeviceReadBps: []string{":1"}}, `invalid argument ":1" for "--device-read-bps" flag: bad format: :1`},
		{BlockFlags{DeviceReadBps: []string{"/etc/a:1"}}, `flag: bad format for device path: /etc/a:1`},
		{BlockFlags{DeviceWriteBps: []string{"/dev/a:-1"}}, `invalid argument "/dev/a:-1" for "--device-write-bps" flag: invalid rate for device: /dev/a:-1. The correct format is <device-path>:<number>[<unit>]`},
		{BlockFlags{DeviceWriteBps: []string{"/dev/a:9999999p"}}, `invalid rate for device`},
		{BlockFlags{DeviceReadIOps: []string{"/dev/a:1k"}}, `invalid argument "/dev/a:1k" for "--device-read-iops" flag: invalid rate for device: /dev/a:1k. The correct format is <device-path>:<number>. Number`},
		{BlockFlags{DeviceWriteIOps: []string{"/dev/a:-1"}}, `"--device-write-iops" flag: invalid rate`},
	} {
		if got := errOr(ParseBlockIO(test.in)); !strings.Contains(got, test.want) {
			t.Errorf("ParseBlockIO(%+v) = %s, want %s", test.in, got, test.want)
		}
	}
	if got := UpdateBlockIO(BlockFlags{BlkioWeight: 10, DeviceReadBps: []string{"/dev/a:1"}}, 0); got.BlkioWeight != 10 || len(got.DeviceReadBps) != 1 {
		t.Errorf("not changed: %+v", got)
	}
	if got := UpdateBlockIO(BlockFlags{BlkioWeight: 10}, 20); got.BlkioWeight != 20 {
		t.Errorf("changed: %+v", got)
	}
}
