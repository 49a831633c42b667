package api

import "testing"

// containerQuestions are asked in this order. Nothing in the image can be executed, so that no answer depends on what a machine can run.
func containerQuestions() []question {
	return parseQuestions(`
POST /images/create?fromSrc=-&repo=cbase&tag=1&changes=CMD+%5B%22%2Fnope%22%5D tar:etc/motd=hello
POST /containers/create?name=c11 {"Image":"cbase:1","Cmd":["/nope"],"Env":["A=1"],"Labels":{"q":"r"},"ExposedPorts":{"80/tcp":{}},"HostConfig":{"Memory":67108864,"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"18099"}]},"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":2},"Tmpfs":{"/t":""}},"NetworkingConfig":{"EndpointsConfig":{"bridge":{}}}}
POST /containers/create?name=c11 {"Image":"cbase:1"}
POST /containers/create {"Image":"absent:1"}
POST /containers/create {"Image":"cbase:1","HostConfig":{"RestartPolicy":{"Name":"often"}}}
POST /containers/create {"Image":"cbase:1","HostConfig":{"Memory":1}}
POST /containers/create {"Image":"cbase:1","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}
POST /containers/create {"Image":"cbase:1","HostConfig":{"Mounts":[{"Type":"bind","Source":"/absent-source","Target":"/x"}]}}
POST /containers/create {"Image":"cbase:1","WorkingDir":"x"}
POST /containers/create {"Image":"cbase:1","StopSignal":"NOPE"}
POST /containers/create {}
POST /containers/create {
POST /containers/create
POST /containers/create?name=! {"Image":"cbase:1"}
GET /containers/c11/json
GET /containers/c11/json?size=1
GET /containers/absent/json
GET /containers/json?all=1&filters=%7B%22label%22%3A%5B%22q%3Dr%22%5D%7D
GET /containers/json?all=1&size=1&filters=%7B%22label%22%3A%7B%22q%3Dr%22%3Atrue%7D%7D
GET /containers/json?filters=%7B%22none%22%3A%5B%22a%22%5D%7D
GET /containers/json?filters=x
GET /containers/json?all=1&filters=%7B%22status%22%3A%5B%22odd%22%5D%7D
GET /containers/json?all=1&filters=%7B%22exited%22%3A%5B%22odd%22%5D%7D
GET /containers/json?all=1&filters=%7B%22before%22%3A%5B%22absent%22%5D%7D
POST /containers/absent/start
POST /containers/c11/stop
POST /containers/absent/stop
POST /containers/c11/stop?signal=NOPE
POST /containers/c11/kill
POST /containers/c11/kill?signal=NOPE
POST /containers/absent/kill
POST /containers/c11/pause
POST /containers/c11/unpause
POST /containers/c11/rename?name=c12
POST /containers/c12/rename?name=c12
POST /containers/c12/rename?name=
POST /containers/absent/rename?name=c13
POST /containers/c12/update {"Memory":134217728,"MemorySwap":268435456,"RestartPolicy":{"Name":"always"}}
POST /containers/c12/update
POST /containers/absent/update {"CpuShares":2}
GET /containers/c12/top
GET /containers/absent/top
GET /containers/c12/stats?stream=0&one-shot=1
GET /containers/absent/stats?stream=0
GET /containers/c12/changes
GET /containers/absent/changes
GET /containers/c12/logs?stdout=1
GET /containers/c12/logs
GET /containers/absent/logs?stdout=1
HEAD /containers/c12/archive?path=/etc/motd
HEAD /containers/c12/archive?path=/absent
GET /containers/c12/archive?path=/etc/motd
GET /containers/c12/archive?path=/absent
GET /containers/c12/archive
GET /containers/absent/archive?path=/
PUT /containers/c12/archive?path=/etc tar:new=text
PUT /containers/c12/archive?path=/absent tar:new=text
PUT /containers/c12/archive?path=/etc/motd tar:new=text
GET /containers/c12/export
GET /containers/absent/export
POST /containers/c12/exec {"Cmd":["x"]}
POST /containers/absent/exec {"Cmd":["x"]}
GET /exec/absent/json
POST /exec/absent/start {}
POST /exec/absent/resize?h=1&w=1
POST /containers/c12/resize?h=10&w=10
POST /containers/c12/resize?h=x&w=10
POST /containers/absent/resize?h=10&w=10
POST /containers/c12/wait
POST /containers/c12/wait?condition=odd
POST /containers/absent/wait
POST /commit?container=c12&repo=com&tag=1&comment=a&author=b&changes=LABEL+x%3Dy
POST /commit?container=c12&repo=com&tag=2&changes=RUN+x
POST /commit?container=absent&repo=com
POST /containers/prune?filters=%7B%22label%22%3A%5B%22absent%3D1%22%5D%7D
POST /containers/prune?filters=%7B%22none%22%3A%5B%22absent%3D1%22%5D%7D
DELETE /containers/c12?v=1
DELETE /containers/absent
DELETE /containers/absent?force=1
DELETE /images/com:1
DELETE /images/cbase:1
GET /swarm
GET /services
GET /nodes
GET /plugins
GET /absent
`)
}

func TestContainerAnswers(t *testing.T) {
	checkAnswers(t, "testdata/containers.txt", containerQuestions())
}
