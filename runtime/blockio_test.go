package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// disk is a block device of this machine that is a whole disk, and its number; it is only looked at.
func disk(t *testing.T) (path, number string) {
	names, _ := os.ReadDir("/sys/block")
	for _, n := range names {
		path := "/dev/" + n.Name()
		if number, err := blockDevice(path); err == nil {
			return path, number
		}
	}
	need(t, "block device", false, "there is none in /dev")
	return "", ""
}

// TestBlockIOFiles: limits of block devices are written in the words of either version, weights as the scheduler that there is has them.
func TestBlockIOFiles(t *testing.T) {
	path, number := disk(t)
	_, target := running(t, Spec{})
	all := BlockIO{Weight: 500}
	for _, use := range []BlockUse{BlockWeight, BlockReadBps, BlockWriteBps, BlockReadIOps, BlockWriteIOps} {
		all.Devices = append(all.Devices, BlockLimit{use, path, 1000}, BlockLimit{use, path, 0})
	}
	for _, test := range []struct {
		name  string
		files []string
		limit BlockIO
		want  map[string]string
	}{
		{"version 2", []string{"cgroup.controllers", "io.weight", "io.max"}, BlockIO{Weight: 500}, map[string]string{"io.weight": "4950"}},
		{"least", []string{"cgroup.controllers", "io.weight"}, BlockIO{Weight: 10}, map[string]string{"io.weight": "1"}},
		{"most", []string{"cgroup.controllers", "io.weight"}, BlockIO{Weight: 1000}, map[string]string{"io.weight": "10000"}},
		{"BFQ", []string{"cgroup.controllers", "io.weight", "io.bfq.weight"}, BlockIO{Weight: 500}, map[string]string{"io.weight": "", "io.bfq.weight": "500"}},
		{"a device", []string{"cgroup.controllers", "io.weight"}, BlockIO{Devices: all.Devices[:1]}, map[string]string{"io.weight": number + " 10000"}},
		{"a rate", []string{"cgroup.controllers", "io.max"}, BlockIO{Devices: all.Devices[4:6]}, map[string]string{"io.max": number + " wbps=1000"}},
		{"version 1", []string{
			"blkio.weight", "blkio.weight_device", "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device",
			"blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device",
		}, all, map[string]string{
			"blkio.weight": "500", "blkio.weight_device": number + " 1000", "blkio.throttle.read_bps_device": number + " 1000",
			"blkio.throttle.write_bps_device": number + " 1000", "blkio.throttle.read_iops_device": number + " 1000", "blkio.throttle.write_iops_device": number + " 1000",
		}},
		{"BFQ of version 1", []string{"blkio.bfq.weight", "blkio.bfq.weight_device"}, BlockIO{Weight: 50, Devices: all.Devices[:1]}, map[string]string{
			"blkio.bfq.weight": "50", "blkio.bfq.weight_device": number + " 1000",
		}},
	} {
		dir := t.TempDir()
		for _, name := range test.files {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		target.Cgroups = []string{dir}
		if err := target.Update(Limits{BlockIO: test.limit}); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		for file, want := range test.want {
			if b, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(b) != want {
				t.Errorf("%s: %s is %q, %v, want %q", test.name, file, b, err, want)
			}
		}
	}
	list, err := all.settings(true) // the kernel takes a line at a time, and keeps all in one file
	var lines []string
	for _, set := range list {
		lines = append(lines, set.or.orFile(set)+" "+set.values[0])
	}
	want := []string{
		"io.weight 500", "io.weight " + number + " 1000", "io.max " + number + " rbps=1000", "io.max " + number + " wbps=1000",
		"io.max " + number + " riops=1000", "io.max " + number + " wiops=1000",
	}
	if err != nil || !slices.Equal(lines, want) {
		t.Errorf("%q, %v, want %q", lines, err, want)
	}
}

// orFile is the file of a setting, of the other one if there is one.
func (set *setting) orFile(of setting) string {
	if set != nil {
		return set.file
	}
	return of.file
}

// TestBlockIO: a container has the limits of block devices that it asks for; what cannot be had is an error that names it.
func TestBlockIO(t *testing.T) {
	path, number := disk(t)
	parent, err := findCgroups()
	need(t, "cgroups", err == nil && (parent.dir["io"] != "" || parent.dir["blkio"] != ""), Cgroups())
	_, target := running(t, Spec{Limits: Limits{BlockIO: BlockIO{Devices: []BlockLimit{{BlockReadBps, path, 1 << 30}}}}})
	file, want := "blkio.throttle.read_bps_device", number+" 1073741824"
	if parent.unified {
		file, want = "io.max", number+" rbps=1073741824 "
	}
	if b, err := os.ReadFile(fileIn(target.Cgroups, file)); err != nil || !strings.HasPrefix(string(b), want) {
		t.Errorf("%s is %q, %v, want %s", file, b, err, want)
	}
	start := func(b BlockIO) error {
		_, err := Start(context.Background(), Spec{Root: openDir(t, t.TempDir()), Args: []string{"x"}, Limits: Limits{BlockIO: b}}, Stdio{})
		return err
	}
	if err := start(BlockIO{Devices: []BlockLimit{{BlockReadBps, "/dev/nosuch", 1}}}); err == nil || err.Error() != "limits: stat /dev/nosuch: no such file or directory" {
		t.Errorf("a device that is not there: %v", err)
	}
	if err := start(BlockIO{Devices: []BlockLimit{{BlockReadBps, "/dev/null", 1}}}); err == nil || err.Error() != "limits: /dev/null is not a block device" {
		t.Errorf("a device of characters: %v", err)
	}
	if left := leftCgroups(t, os.Getpid()); left > len(target.Cgroups) {
		t.Errorf("%d cgroups, the container has %d", left, len(target.Cgroups))
	}
}

// TestBlockIORefused: where the kernel has no file for a limit it is an error, with the limit and the reason, and no warning.
func TestBlockIORefused(t *testing.T) {
	path, _ := disk(t)
	s := &setup{spec: &Spec{Warn: func(text string) { t.Errorf("warned: %s", text) }}}
	list, err := (&BlockIO{Weight: 10, Devices: []BlockLimit{{BlockReadBps, path, 1}}}).settings(true)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"Block I/O weight can not be set, as your kernel does not support it or the cgroup is not mounted: ",
		"BPS Block I/O read limit can not be set, as your kernel does not support it or the cgroup is not mounted: ",
	} {
		none := &cgroup{parent: &cgroupParent{unified: true, dir: map[string]string{}}}
		if err := s.limit(none, list[i]); err == nil || err.Error() != want+"this machine has no cgroup controller io for it" {
			t.Errorf("without the controller: %v, want %s", err, want)
		}
		bare := &cgroup{parent: &cgroupParent{unified: true, dir: map[string]string{"io": t.TempDir()}}, name: "."}
		if err := s.limit(bare, list[i]); err == nil || !strings.HasPrefix(err.Error(), want+"there is no io.") {
			t.Errorf("without the file: %v, want %s", err, want)
		}
		if err := s.discard(list[i], "no cgroups"); err == nil || err.Error() != want+"no cgroups" {
			t.Errorf("without cgroups: %v, want %s", err, want)
		}
	}
	partition := &fs.PathError{Op: "write", Path: "io.max", Err: unix.ENODEV}
	if err := list[1].explain("", partition); !errors.Is(err, unix.ENODEV) || !strings.HasPrefix(err.Error(), path+" cannot be limited: the kernel limits whole disks, not partitions") {
		t.Errorf("a partition: %v", err)
	}
}
