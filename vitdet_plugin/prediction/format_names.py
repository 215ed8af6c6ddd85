"""Names of the formats of results and of their files, without the imports of the writers."""

#: format -> what it writes below the output folder
FILES = {'coco': 'coco_results.json', 'yolo': 'labels', 'labelme': 'labelme', 'csv': 'predictions.csv',
         'jsonl': 'predictions.jsonl', 'json': 'predictions.json'}
COCO_IMAGES = 'coco_images.json'  #: the second file of ``coco``
#: files of one run for all images
RESULTS = (COCO_IMAGES, *(name for name in FILES.values() if '.' in name))
FORMATS_OF_CLASSES = ('csv', 'jsonl', 'json')
