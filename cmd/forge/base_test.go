package main

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"strings"
)

// basePath is the PATH of the base image that stories and cases begin with.
const basePath = "/bin"

// staticBusybox is the distribution's static busybox, or "".
func staticBusybox() string {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return ""
	}
	return path
}

// busyboxTar is a root file system with busybox, its commands, and two users. Its files are of 1970.
func busyboxTar() ([]byte, error) {
	program, err := os.ReadFile(staticBusybox())
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(staticBusybox(), "--list").Output()
	if err != nil {
		return nil, err
	}
	entries := []tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "dev/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "proc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "sys/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "root/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "bin/busybox", Mode: 0o755},
		{Name: "etc/passwd", Mode: 0o644},
		{Name: "etc/group", Mode: 0o644},
	}
	content := map[string]string{
		"bin/busybox": string(program),
		"etc/passwd":  "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
		"etc/group":   "root:x:0:\napp:x:1000:\nextra:x:2000:app\n",
	}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			entries = append(entries, tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777})
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.Size = int64(len(content[h.Name]))
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(content[h.Name])); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return b.Bytes(), err
}
