# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of content libraries as sources of templates."""

from __future__ import annotations

import http.client
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stockyard import FleetSpec, ImageSpec, TemplateSpec, Yard
from stockyard.errors import StockyardError
from stockyard.model.login import Login
from stockyard.providers.vsphere import place
from stockyard.providers.vsphere.library import ITEMS, LIBRARIES, NAME, find_item
from stockyard.providers.vsphere.rest import Rest
from tests.vcsim.simulator import SOURCE, Simulator

SESSIONS, FILES = "update-session", "updatesession/file"
OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
<References><File ovf:href="disk.vmdk" ovf:id="file1" ovf:size="1024"/></References>
<DiskSection><Info/><Disk ovf:capacity="1"
  ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="disk1"
  ovf:fileRef="file1"/></DiskSection>
<NetworkSection><Info/><Network ovf:name="VM Network"><Description/></Network></NetworkSection>
<VirtualSystem ovf:id="debian"><Info/><Name>debian</Name><OperatingSystemSection ovf:id="96"><Info/>
</OperatingSystemSection><VirtualHardwareSection><Info/>
<System><vssd:ElementName>h</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
  <vssd:VirtualSystemType>vmx-19</vssd:VirtualSystemType></System>
<Item><rasd:ElementName>cpu</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID>
  <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
  <rasd:ElementName>memory</rasd:ElementName>
  <rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType>
  <rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
<Item><rasd:ElementName>scsi</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
  <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk</rasd:ElementName>
  <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
  <rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>7</rasd:AddressOnParent><rasd:Connection>VM Network</rasd:Connection>
  <rasd:ElementName>card</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID>
  <rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>
"""


@pytest.fixture
def session(own_vcenter: Simulator) -> Rest:
    """vCenter's REST interface, for the administrator of the library."""
    login = Login(own_vcenter.username, own_vcenter.password, True, own_vcenter.ca_path)
    where = place.parse(own_vcenter.uri)
    return Rest(where, login, ssl.create_default_context(cafile=own_vcenter.ca_path))


@pytest.fixture
def item(own_vcenter: Simulator, session: Rest) -> str:
    """An OVF item in a library, as a source is named."""
    store = next(d for d in own_vcenter.connect().content.rootFolder.childEntity[0].datastore)
    with session as client:
        backing = [{"datastore_id": store._moId, "type": "DATASTORE"}]
        spec = {"name": "golden", "type": "LOCAL", "storage_backings": backing}
        library = client.request("POST", "/com/vmware/content/local-library", {"create_spec": spec})
        spec = {"name": "debian", "type": "ovf", "library_id": library}
        key = client.request("POST", ITEMS, {"create_spec": spec})
        update = client.request(
            "POST", f"{ITEMS}/{SESSIONS}", {"create_spec": {"library_item_id": key}}
        )
        file = {"file_spec": {"name": "debian.ovf", "source_type": "PUSH", "size": len(OVF)}}
        file_entry = client.request("POST", f"{ITEMS}/{FILES}/id:{update}?~action=add", file)
        put(session, file_entry["upload_endpoint"]["uri"])
        client.request("POST", f"{ITEMS}/{SESSIONS}/id:{update}?~action=complete")
    time.sleep(0.2)
    return "library:golden/debian"


def put(session: Rest, uri: str) -> None:
    """Upload the description of the machine."""
    parts = urlsplit(uri)
    line = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=session._context)
    line.request("PUT", parts.path, OVF, {"vmware-api-session-id": session._session})
    assert line.getresponse().status < 300
    line.close()


def test_library_item_is_deployed_once_and_deleted_with_its_templates(
    own_vcenter: Simulator, item: str, tmp_path: Path
) -> None:
    before = set(own_vcenter.machines())
    with Yard(own_vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path)) as yard:
        spec = TemplateSpec("base", image=ImageSpec(source=item))
        assert yard.templates.apply(spec).changed
        assert not yard.templates.apply(spec).changed
        (image,) = (name for name in own_vcenter.machines() if name.startswith(NAME))
        assert own_vcenter.machines()[image].snapshot is not None
        assert yard.templates.apply(TemplateSpec("other", image=ImageSpec(source=item))).changed
        assert [name for name in own_vcenter.machines() if name.startswith(NAME)] == [image]
        hosts = yard.fleets.apply(FleetSpec("web", template="base", count=2)).objects
        assert {host.mode for host in hosts} == {"instant"}
        yard.templates.prune()
        assert image in own_vcenter.machines()
        yard.teardown(templates=True)
    assert set(own_vcenter.machines()) == before


def test_a_machine_that_has_an_item_s_name_is_left_alone(
    own_vcenter: Simulator, session: Rest, item: str, tmp_path: Path
) -> None:
    """A controller that was killed in a deployment leaves one, and so may another user."""
    with session as client:
        name = find_item(client, item).machine
    source = own_vcenter.find(SOURCE)
    own_vcenter.clone(source, name, source.parent.CreateFolder("stockyard"))
    with Yard(own_vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path)) as yard:
        with pytest.raises(StockyardError, match="exists, and is not marked as this item"):
            yard.templates.apply(TemplateSpec("base", image=ImageSpec(source=item)))
        yard.teardown(templates=True)
    assert name in own_vcenter.machines()


def test_missing_library_item_is_named(own_vcenter: Simulator, item: str, tmp_path: Path) -> None:
    wrong = {
        "library:golden": "LIBRARY/ITEM",
        "library:none/debian": "library none",
        "library:golden/x": "item x",
    }
    with Yard(own_vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path)) as yard:
        for source, word in wrong.items():
            with pytest.raises(StockyardError, match=word) as caught:
                yard.templates.apply(TemplateSpec("base", image=ImageSpec(source=source)))
            assert "Remedy: " in str(caught.value)
            assert own_vcenter.password.partition("'")[0] not in str(caught.value)


def test_library_item_without_a_machine_is_refused(
    own_vcenter: Simulator, session: Rest, item: str, tmp_path: Path
) -> None:
    """The simulator makes items of type VM template, and does not say which machine one is."""
    with session as client:
        library = client.request("POST", f"{LIBRARIES}?~action=find", {"spec": {"name": "golden"}})[
            0
        ]
        source, folder = own_vcenter.find(SOURCE), own_vcenter.find(SOURCE).parent
        place = {"folder": folder._moId, "resource_pool": source.resourcePool._moId}
        spec = {"source_vm": source._moId, "name": "whole", "library": library, "placement": place}
        client.request("POST", "/vcenter/vm-template/library-items", {"spec": spec})
    before = set(own_vcenter.machines())
    with Yard(own_vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path)) as yard:
        with pytest.raises(
            StockyardError, match="vCenter does not report the deployed machine"
        ) as caught:
            yard.templates.apply(
                TemplateSpec("base", image=ImageSpec(source="library:golden/whole"))
            )
        assert "declare the VM template itself as the source, by its name in the" in str(
            caught.value
        )
        assert yard.templates.list() == ()
        # Which is what the machine is called in the inventory.
        assert yard.templates.apply(TemplateSpec("base", image=ImageSpec(source="whole"))).changed
        yard.teardown(templates=True)
    assert set(own_vcenter.machines()) == before
