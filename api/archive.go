package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/forge-build/forge"
)

// archiveRoutes are about files in containers.
func archiveRoutes() []route {
	return []route{
		{method: http.MethodHead, pattern: "/containers/{name}/archive", do: statPath},
		{method: http.MethodGet, pattern: "/containers/{name}/archive", do: getArchive},
		{method: http.MethodPut, pattern: "/containers/{name}/archive", do: putArchive},
		{method: http.MethodGet, pattern: "/containers/{name}/changes", do: changes},
		{method: http.MethodGet, pattern: "/containers/{name}/export", do: export},
	}
}

// path is the path of the query.
func (c *call) path() (string, error) {
	p := c.query.Get("path")
	if p == "" {
		return "", invalid(errors.New("bad parameter: 'path' cannot be empty"))
	}
	return p, nil
}

// setStat puts what a file is into the head of the answer.
func (c *call) setStat(st forge.FileStat) error {
	raw, err := json.Marshal(st)
	if err == nil {
		c.w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(raw))
	}
	return err
}

func statPath(c *call) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	st, err := c.home.StatInContainer(c.ctx(), c.name, path)
	if err != nil {
		return err
	}
	if err := c.setStat(st); err != nil {
		return err
	}
	return c.ok()
}

func getArchive(c *call) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	return c.home.CopyTarFrom(c.ctx(), c.name, path, c.w, forge.FileCopyOptions{Owners: true}, func(st forge.FileStat) error {
		if err := c.setStat(st); err != nil {
			return err
		}
		c.begin(http.StatusOK, "application/x-tar")
		return nil
	})
}

// putArchive unpacks a tar, compressed or not, in a directory of the container.
func putArchive(c *call) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	o := forge.FileCopyOptions{AsUser: c.flag("copyUIDGID"), Replace: !c.flag("noOverwriteDirNonDir")}
	if _, err = c.home.CopyTarTo(c.ctx(), c.r.Body, c.name, path, o); err != nil {
		return err
	}
	return c.ok()
}

// changes lists what a container has otherwise than its image.
func changes(c *call) error {
	list, err := c.home.ContainerDiff(c.ctx(), c.name)
	if err != nil {
		return err
	}
	type change struct {
		Path string
		Kind int
	}
	answer := []change{}
	for _, f := range list {
		answer = append(answer, change{f.Path, map[byte]int{'C': 0, 'A': 1, 'D': 2}[f.Kind]})
	}
	return c.reply(http.StatusOK, answer)
}

func export(c *call) error {
	if _, err := c.home.Container(c.name); err != nil {
		return err
	}
	return c.home.ExportContainer(c.ctx(), c.name, forge.ExportOptions{File: "-", Stdout: lateWriter{c, "application/octet-stream"}})
}
