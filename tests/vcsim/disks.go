// SPDX-FileCopyrightText: stockyard contributors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"os"
	"path"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// disks are the files under the disks of all machines. A vCenter deletes a shared file together with the last machine
// that uses it; the simulator deletes it together with the machine that made it.
type disks struct {
	stores map[string]string

	mu sync.Mutex
	// files are those of each machine.
	files map[string][]string
	// saved are the contents of files whose machine was deleted while others used them, by their names and paths.
	saved map[string]map[string][]byte
}

func newDisks(model *simulator.Model) *disks {
	d := &disks{stores: map[string]string{}, files: map[string][]string{}, saved: map[string]map[string][]byte{}}
	for _, entity := range model.Map().All("Datastore") {
		store := entity.(*simulator.Datastore)
		d.stores[store.Name] = store.Summary.Url
	}
	return d
}

// learn takes note of the files of a machine, which is locked by the caller.
func (d *disks) learn(vm *mo.VirtualMachine) {
	if vm.Config == nil {
		return
	}
	files := []string{}
	for _, device := range vm.Config.Hardware.Device {
		backing, _ := device.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		for ; backing != nil; backing = backing.Parent {
			files = append(files, backing.FileName)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[vm.Self.Value] = files
}

// spare lets the deletion of a machine leave the files that other machines use. The simulator deletes the directory of
// the machine in a task of its own, which may end later.
func (d *disks) spare(task *simulator.Task) {
	work := task.Execute
	switch task.Info.DescriptionId {
	case "VirtualMachine.destroy":
		machine := task.Info.Entity.Value
		task.Execute = func(t *simulator.Task) (types.AnyType, types.BaseMethodFault) {
			own := d.save(machine)
			result, fault := work(t)
			if fault == nil {
				d.forget(machine, own)
			}
			return result, fault
		}
	case "FileManager.deleteDatastoreFile":
		task.Execute = func(t *simulator.Task) (types.AnyType, types.BaseMethodFault) {
			defer d.restore()
			return work(t)
		}
	}
}

// save keeps the contents of the files of a machine that other machines use too. It returns all its files.
func (d *disks) save(machine string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	own := d.files[machine]
	for _, file := range own {
		if _, known := d.saved[file]; known || !d.used(file, machine) {
			continue
		}
		d.saved[file] = map[string][]byte{}
		for _, place := range d.places(file) {
			if content, err := os.ReadFile(place); err == nil {
				d.saved[file][place] = content
			}
		}
	}
	return own
}

// forget deletes the saved files that a machine was the last to use.
func (d *disks) forget(machine string, own []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, machine)
	for _, file := range own {
		if places, known := d.saved[file]; known && !d.used(file, machine) {
			delete(d.saved, file)
			for place := range places {
				_ = os.Remove(place)
				_ = os.Remove(path.Dir(place))
			}
		}
	}
}

// restore writes saved files again that were deleted.
func (d *disks) restore() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, places := range d.saved {
		for place, content := range places {
			if _, err := os.Stat(place); err != nil {
				_ = os.MkdirAll(path.Dir(place), 0o700)
				_ = os.WriteFile(place, content, 0o600)
			}
		}
	}
}

// used says whether another machine has a file under its disk.
func (d *disks) used(file, machine string) bool {
	for other, files := range d.files {
		if other == machine {
			continue
		}
		for _, one := range files {
			if one == file {
				return true
			}
		}
	}
	return false
}

// places are the paths of a disk's descriptor and content.
func (d *disks) places(file string) []string {
	store, name, _ := strings.Cut(strings.TrimPrefix(file, "["), "] ")
	root := d.stores[store]
	return []string{path.Join(root, name), path.Join(root, simulator.VirtualDiskBackingFileName(name))}
}
