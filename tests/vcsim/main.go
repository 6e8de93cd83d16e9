// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// vcsim is govmomi's simulator as the tests of stockyard need it: with instant clones, a certificate of ours, faults on
// demand, a log of every call, and a side door for guests.
//
// It reads its configuration as one line of JSON from standard input (a password is no command line's business), says in
// one line of JSON where it listens, and ends when standard input does: with its parent.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/simulator/vpx"
	_ "github.com/vmware/govmomi/vapi/simulator" // tags
)

type config struct {
	Address        string `json:"address"`
	Certificate    string `json:"certificate"`
	Key            string `json:"key"`
	Username       string `json:"username"`
	Password       string `json:"password"`
	APIVersion     string `json:"api_version"`
	Product        string `json:"product"`
	Clusters       int    `json:"clusters"`
	Hosts          int    `json:"hosts"`
	Datastores     int    `json:"datastores"`
	Networks       int    `json:"networks"`
	Machines       int    `json:"machines"`
	InstantClone   bool   `json:"instant_clone"`
	IgnoreLocation bool   `json:"ignore_location"`
}

func main() {
	stdin := bufio.NewReader(os.Stdin)
	if err := run(stdin); err != nil {
		fmt.Fprintln(os.Stderr, "vcsim:", err)
		os.Exit(1)
	}
}

func run(stdin *bufio.Reader) error {
	var c config
	line, err := stdin.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return err
	}
	model := modelOf(&c)
	defer model.Remove()
	if err := model.Create(); err != nil {
		return err
	}
	enlarge(model)
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	model.Service.RegisterEndpoints = true
	model.Service.Listen = &url.URL{Host: c.Address, User: url.UserPassword(c.Username, c.Password)}
	server := model.Service.NewServer()
	defer server.Close()
	control := newControl(model, c.InstantClone)
	simulator.IgnoreLocation = c.IgnoreLocation
	address, err := control.listen()
	if err != nil {
		return err
	}
	answer := map[string]string{"sdk": server.URL.Host, "control": address}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

func modelOf(c *config) *simulator.Model {
	log.SetOutput(os.Stderr)
	if c.Product == "esx" {
		model := simulator.ESX()
		model.ServiceContent = esx.ServiceContent
		model.ServiceContent.About.ApiVersion = c.APIVersion
		model.Machine = c.Machines
		return model
	}
	model := simulator.VPX()
	model.ServiceContent = vpx.ServiceContent
	model.ServiceContent.About.ApiVersion = c.APIVersion
	model.Host = 0
	model.Cluster, model.ClusterHost = c.Clusters, c.Hosts
	model.Datastore, model.Portgroup, model.Machine = c.Datastores, c.Networks, c.Machines
	return model
}

// enlarge makes datastores of 1 PiB: the simulator takes the whole size of each clone's disk away from the free space.
func enlarge(model *simulator.Model) {
	for _, entity := range model.Map().All("Datastore") {
		store := entity.(*simulator.Datastore)
		store.Summary.Capacity, store.Summary.FreeSpace = 1<<50, 1<<50
		store.Info.GetDatastoreInfo().FreeSpace = 1 << 50
	}
}
