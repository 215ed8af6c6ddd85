"""A small sample of each layout of each format, written without the converters of the project."""

import json

from tests.datasets.formats.reading import write, write_image

_XML = ('<annotation><filename>a.jpg</filename><size><width>100</width><height>80</height></size><object>'
        '<name>cat</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object></annotation>')
_COCO = dict(images=[dict(id=1, file_name='a.jpg', width=100, height=80)], categories=[dict(id=1, name='cat')],
             annotations=[dict(id=1, image_id=1, category_id=1, bbox=[10, 20, 30, 40], area=1200, iscrowd=0)])
_ROW = '0 0.25 0.5 0.3 0.5\n'
_TABLE = 'filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,100,80,cat,10,20,40,60\n'
_CVAT = ('<annotations><version>1.1</version><image id="0" name="a.jpg" width="100" height="80">'
         '<box label="cat" xtl="10" ytl="20" xbr="40" ybr="60"></box></image></annotations>')
_LABELME = dict(version='5.0', flags={}, imagePath='a.jpg', imageData=None, imageHeight=80, imageWidth=100, shapes=[
    dict(label='cat', points=[[10, 20], [40, 60]], shape_type='rectangle')])
_REGION = dict(name='rect', x=10, y=20, width=30, height=40)
_VIA = {'a.jpg1': dict(filename='a.jpg', size=1, file_attributes={}, regions=[
    dict(shape_attributes=_REGION, region_attributes={'class': 'cat'})])}
_VIA_TABLE = ('filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n'
              'a.jpg,1,{},1,0,"{""name"":""rect"",""x"":10,""y"":20,""width"":30,""height"":40}","{""class"":""cat""}"\n')
_TASK = dict(id=1, data=dict(image='/data/upload/1/0a1b2c3d-a.jpg'), annotations=[dict(result=[dict(
    type='rectanglelabels', original_width=100, original_height=80, id='x',
    value=dict(x=10, y=25, width=30, height=50, rotation=0, rectanglelabels=['cat']))])])
_SUPERVISELY = dict(size=dict(width=100, height=80), tags=[], objects=[
    dict(classTitle='cat', geometryType='rectangle', points=dict(exterior=[[10, 20], [40, 60]], interior=[]))])
_CREATEML = [dict(image='a.jpg', annotations=[
    dict(label='cat', coordinates=dict(x=25, y=40, width=30, height=40))])]
_VOTT_ASSET = dict(asset=dict(id='0a', name='a.jpg', path='file:/me/a.jpg', size=dict(width=100, height=80), state=2),
                   regions=[dict(id='r', type='RECTANGLE', tags=['cat'], points=[],
                                 boundingBox=dict(left=10, top=20, width=30, height=40))], version='2.2.0')
_DATUMARO = dict(info={}, categories=dict(label=dict(labels=[dict(name='cat', parent='')])), items=[
    dict(id='a', image=dict(path='a.jpg', size=[80, 100]), annotations=[
        dict(id=0, type='bbox', label_id=0, group=0, bbox=[10, 20, 30, 40], attributes={})])])
_KITTI = 'cat 0.00 0 -1.58 10.00 20.00 40.00 60.00 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n'
# (format, images, texts or objects of JSON by path)
SAMPLES = {
    'coco': ('coco', ['train2017/a.jpg'], {'annotations/instances_train2017.json': _COCO}),
    'roboflow coco': ('coco', ['train/a.jpg'], {'train/_annotations.coco.json': _COCO, 'README.roboflow.txt': 'text'}),
    'yolo': ('yolo', ['images/train/a.jpg'], {'labels/train/a.txt': _ROW, 'data.yaml': 'names: [cat]\n'}),
    'roboflow yolo': ('yolo', ['train/images/a.jpg'], {
        'train/labels/a.txt': _ROW, 'data.yaml': 'train: ../train/images\nnc: 1\nnames: [cat]\n',
        'README.dataset.txt': 'text'}),
    'darknet': ('yolo', ['obj/a.jpg'], {'obj/a.txt': _ROW, 'obj.names': 'cat\n', 'train.txt': 'obj/a.jpg\n'}),
    'voc': ('voc', ['JPEGImages/a.jpg'], {'Annotations/a.xml': _XML, 'ImageSets/Main/train.txt': 'a\n'}),
    'roboflow voc': ('voc', ['train/a.jpg'], {'train/a.xml': _XML}),
    'csv': ('csv', ['images/a.jpg'], {'train_labels.csv': _TABLE}),
    'csv without header': ('csv', ['a.jpg'], {'a.csv': 'a.jpg,10,20,40,60,cat\n'}),
    'labelme': ('labelme', ['a.jpg'], {'a.json': _LABELME}),
    'via': ('via', ['train/a.jpg'], {'train/via_region_data.json': _VIA}),
    'via project': ('via', ['a.jpg'], {'via_project.json': dict(_via_settings={}, _via_img_metadata=_VIA)}),
    'via csv': ('via', ['a.jpg'], {'via_export.csv': _VIA_TABLE}),
    'cvat': ('cvat', ['images/a.jpg'], {'annotations.xml': _CVAT}),
    'label studio': ('label-studio', ['images/a.jpg'], {'project-1-at-2024.json': [_TASK]}),
    'supervisely': ('supervisely', ['ds/img/a.jpg'], {
        'ds/ann/a.jpg.json': _SUPERVISELY, 'meta.json': dict(classes=[dict(title='cat', shape='any')], tags=[])}),
    'createml': ('createml', ['train/a.jpg'], {'train/_annotations.createml.json': _CREATEML}),
    'vott': ('vott', ['source/a.jpg'], {'target/vott-json-export/x-export.json': dict(
        name='x', tags=[dict(name='cat', color='#fff')], assets={'0a': _VOTT_ASSET})}),
    'vott project': ('vott', ['a.jpg'], {'0a-asset.json': _VOTT_ASSET, 'x.vott': dict(name='x', assets={})}),
    'datumaro': ('datumaro', ['images/default/a.jpg'], {'annotations/default.json': _DATUMARO}),
    'ground truth': ('ground-truth', ['a.jpg'], {'output.manifest': json.dumps({
        'source-ref': 's3://b/a.jpg', 'job-metadata': {'class-map': {'0': 'cat'}}, 'job': dict(
            annotations=[dict(class_id=0, left=10, top=20, width=30, height=40)],
            image_size=[dict(width=100, height=80, depth=3)])}) + '\n'}),
    'hugging face': ('huggingface', ['train/a.jpg'], {'train/metadata.jsonl': json.dumps(dict(
        file_name='a.jpg', objects=dict(bbox=[[10, 20, 30, 40]], categories=['cat']))) + '\n'}),
    'kitti': ('kitti', ['training/image_2/a.png'], {'training/label_2/a.txt': _KITTI}),
    'dota': ('dota', ['train/images/a.png'], {
        'train/labelTxt/a.txt': 'imagesource:GoogleEarth\ngsd:0.1\n10 20 40 20 40 60 10 60 cat 0\n'}),
    'lists': ('class-folders', ['val/a.jpg', 'val/b.jpg'], {
        'val.txt': 'val/a.jpg 0\nval/b.jpg 1\n', 'classes.txt': 'cat\ndog\n'}),
}
# found if nothing else is
DOUBTFUL_SAMPLES = {
    'labels': ('csv', ['train/a.jpg', 'train/b.jpg'], {'labels.csv': 'id,label\na,cat\nb,dog\n'}),
    'folders': ('class-folders', ['train/cat/a.jpg', 'train/dog/b.jpg'], {}),
}


def write_sample(root, images, files):
    """Write the images and files of a sample."""
    for path in images:
        write_image(root / path)
    for path, content in files.items():
        write(root / path, content)
    return root
